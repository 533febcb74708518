"""Copying the bytes of a regular file: reflink, in-kernel copy, or read and write.

Holes stay holes.  Source: ioctl_ficlone(2), copy_file_range(2), lseek(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable

_FICLONE = 0x40049409
_CHUNK = 1 << 20
_SMALL = 1 << 16
_STRETCH = 32 << 20  # how many bytes the kernel copies between two calls of `pause`
_PART = 1 << 20  # the same if `written` is called after each
_NOT_HERE = frozenset(
    (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM)
)


def try_reflink(src: int, dst: int) -> bool:
    """Make the empty file `dst` share the data of `src`; False if the filesystem cannot."""
    try:
        fcntl.ioctl(dst, _FICLONE, src)
    except OSError as error:
        if error.errno in _NOT_HERE or error.errno == errno.ETXTBSY:
            return False
        raise
    return True


def copy_range(
    src: int,
    dst: int,
    size: int,
    *,
    holes: bool,
    pause: Callable[[], None] = lambda: None,
    written: Callable[[int, int], object] | None = None,
) -> None:
    """Copy the first `size` bytes of `src` into the empty file `dst`.

    `holes` says that `src` may have holes, which are kept.  Afterwards `dst` has `size`
    bytes.  `pause` is called between parts of the copy; an exception from it stops the
    copy.  `written` is called with the offset and the length in bytes of each part that was
    copied, of 1 MiB at most, if the file is not small.
    """
    if not holes:
        if size <= _SMALL:
            data = os.pread(src, size, 0)
            done = os.pwrite(dst, data, 0)
            if done == size:
                return
            write_at(dst, memoryview(data)[done:], done)
            if len(data) == size:
                return
        else:
            _copy_segment(src, dst, 0, size, pause, written)
    else:
        offset = 0
        while offset < size:
            try:
                start = os.lseek(src, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                raise
            end = min(os.lseek(src, start, os.SEEK_HOLE), size)
            if start < size:
                _copy_segment(src, dst, start, end, pause, written)
            offset = max(end, start)
    if os.fstat(dst).st_size != size:
        os.ftruncate(dst, size)


def _copy_segment(
    src: int,
    dst: int,
    start: int,
    end: int,
    pause: Callable[[], None],
    written: Callable[[int, int], object] | None,
) -> None:
    most = _STRETCH if written is None else _PART
    try:
        while start < end:
            pause()
            done = os.copy_file_range(src, dst, min(most, end - start), start, start)
            if done == 0:
                return
            if written is not None:
                written(start, done)
            start += done
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        _read_write(src, dst, start, end, pause, written)


def _read_write(
    src: int,
    dst: int,
    start: int,
    end: int,
    pause: Callable[[], None],
    written: Callable[[int, int], object] | None,
) -> None:
    while start < end:
        pause()
        data = os.pread(src, min(_CHUNK, end - start), start)
        if not data:
            return
        write_at(dst, data, start)
        if written is not None:
            written(start, len(data))
        start += len(data)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` from `offset` on, in as many calls as that takes."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view = view[done:]
        offset += done
