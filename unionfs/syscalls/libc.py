"""The C library, loaded once, and the way its failures become `OSError`.

Only `unionfs.syscalls` imports ctypes.  A call made through `libc` gives up
the GIL while it runs; one through `libc_held` keeps it, which is cheaper for
calls that cannot block.
"""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
libc_held = ctypes.PyDLL(None, use_errno=True)


def fail(*names: bytes) -> OSError:
    """Return the `OSError` for the errno the last call left, about `names`."""
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), *names[:1])
