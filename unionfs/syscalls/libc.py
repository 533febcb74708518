"""The C library, loaded once, and the `OSError` for its failures.

Only `unionfs.syscalls` imports ctypes.  A call through `libc` releases
the GIL while it runs; a call through `libc_held` keeps it, which costs less if it cannot
block.
"""

from __future__ import annotations

import ctypes
import os

# <linux/fcntl.h>; open(2) and statx(2) say what each does.
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000

libc = ctypes.CDLL(None, use_errno=True)
libc_held = ctypes.PyDLL(None, use_errno=True)


def fail(*names: bytes) -> OSError:
    """Return the `OSError` for the errno the last call left, about `names`."""
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), *names[:1])
