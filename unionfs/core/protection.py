"""Immutable and append-only files: chattr(1), +i and +a.

The filesystem of the upper enforces these marks itself.  For a file of a lower the union
enforces them, because the filesystem would only see a change of the copy.  If a copy_up is
allowed, the copy gets the marks too, once it has its name.  A copy_up does not count as a
change of the directory that the copy is made in, so the marks of that directory are removed
meanwhile.  A crash between these steps loses the marks of the copy.

Source: ioctl_iflags(2); fs/namei.c:may_delete(), may_linkat(); fs/attr.c:may_setattr();
fs/overlayfs/util.c:ovl_copyattr(), copy_up.c:ovl_copy_fileattr().
"""

from __future__ import annotations

import errno
import fcntl
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from unionfs.core.inode import Dir, File, Node, in_upper
from unionfs.core.layer import open_regular
from unionfs.core.owner_rights import Place, as_owner
from unionfs.errors import fs_error
from unionfs.light_typing import TypeVar
from unionfs.syscalls.statx import marks_at

_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602
_FLAGS = struct.Struct("=i")

R = TypeVar("R")


def refuse(marks: int, allowed: int = 0) -> None:
    """Raise EPERM if `marks` has a mark that is not among those `allowed`."""
    if marks & ~allowed:
        raise fs_error(errno.EPERM)


def require_changeable(node: Node, allowed: int = 0) -> None:
    """Raise EPERM if `node` is in a lower and has a mark that is not among those `allowed`."""
    if isinstance(node, Dir):
        if node.upper is None:
            refuse(marks_at(node.lowers[0].fd(), b""), allowed)
    elif isinstance(node, File) and not in_upper(node) and not node.unlinked:
        refuse(marks_at(node.real.fd(), node.rname), allowed)


def protect(place: Place, marks: int) -> None:
    """Give the copy at `place`, which has its name, the `marks` of what was copied."""
    if marks:
        _set(_opened(place), marks, 0)


def require_protectable(place: Place, marks: int) -> None:
    """Raise EPERM, as for a change, if the staged copy at `place` cannot get the `marks`."""
    if marks:
        fd = _opened(place)
        _set(fd, marks, 0)
        _set(fd, 0, marks)


def _opened(place: Place) -> int:
    fd, name = place
    return fd if name is None else open_regular(name, fd)


def past_marks(operation: Callable[[], R], fd: int) -> R:
    """Return `operation()`, tried again without the marks of the directory `fd` after EPERM."""
    try:
        return operation()
    except PermissionError as error:
        marks = marks_at(fd, b"") if error.errno == errno.EPERM else 0
        if not marks:
            raise
        with _taken_off(fd, marks):
            return operation()


@contextmanager
def unmarked(places: Iterable[Place]) -> Iterator[None]:
    """Take the marks off what is at `places` meanwhile; it may be moved.

    Raises EPERM, with all marks as before, if that is not possible.
    """
    with ExitStack() as taken_off:
        for fd, name in places:
            marks = as_owner(partial(marks_at, fd, name or b""), (fd, None))
            if marks:
                taken_off.enter_context(_taken_off(_opened((fd, name)), marks))
        yield


@contextmanager
def _taken_off(fd: int, marks: int) -> Iterator[None]:
    _set(fd, 0, marks)
    try:
        yield
    finally:
        _set(fd, marks, 0)


def _set(fd: int, added: int, removed: int) -> None:
    try:
        flags = bytearray(_FLAGS.size)
        fcntl.ioctl(fd, _GETFLAGS, flags)
        (before,) = _FLAGS.unpack(flags)
        fcntl.ioctl(fd, _SETFLAGS, _FLAGS.pack(before & ~removed | added))
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EACCES):
            raise fs_error(errno.EPERM) from error
        raise
