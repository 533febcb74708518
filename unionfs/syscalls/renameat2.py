"""renameat2(2): a rename that does not replace, that exchanges, or that leaves a whiteout."""

from __future__ import annotations

import ctypes

from unionfs.syscalls.libc import fail, libc

AT_FDCWD = -100

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

_renameat2 = libc.renameat2
_renameat2.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
]


def renameat2(src_dir: int, src: bytes, dst_dir: int, dst: bytes, flags: int) -> None:
    """Rename `src` beneath `src_dir` to `dst` beneath `dst_dir`.

    Raises the `OSError` of renameat2(2), which is EINVAL if the filesystem does not
    support one of the `flags`.
    """
    if _renameat2(src_dir, src, dst_dir, dst, flags) != 0:
        raise fail(src)
