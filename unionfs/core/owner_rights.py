"""Change files whose mode keeps their owner out, for a daemon that is not root.

The kernel lets root do that.  Decided here and only here: how the daemon of an ordinary user
renames, marks and opens files of that user in, say, a directory of mode 0555.  If that fails
with EACCES, the mode is widened for the owner, the operation is done again, and the mode is
put back.  A crash between these steps leaves a mode that allows more to the owner, and to
nobody else.

Threading: one thread at a time has modes widened.  It takes no other lock meanwhile, so an
`operation` is a system call, or a few.  A change of a mode is made with `modes_settled`.
A thread that reads a mode may find it widened, and the kernel would show it for good; so it
asks `may_be_widened`, and reads it again with `settled`.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from unionfs.light_typing import TypeVar
from unionfs.syscalls import xattr

Place = tuple[int, bytes | None]  # a directory fd and a name in it, or an fd and None

R = TypeVar("R")

# How long, in seconds, a thread may take from stat(2) to `may_be_widened`.
_LATELY_S = 1.0

_widening = threading.Lock()
_turn = 0  # odd while modes are widened
# When an inode (st_dev, st_ino) was widened last.
_widened: dict[tuple[int, int], float] = {}


def as_owner(operation: Callable[[], R], *places: Place) -> R:
    """Return `operation()`, tried again as the owner of `places` where it gives EACCES."""
    try:
        return operation()
    except PermissionError as error:
        if error.errno != errno.EACCES:
            raise
        with _our_turn(), ExitStack() as stack:
            changed = [_widen(stack, place) for place in places]
            if not any(changed):
                raise
            return operation()


def upper_mark(fd: int, name: bytes | None, mark: bytes) -> bytes | None:
    """Return a mark of what is at `fd` and `name` in the upper, None if it has none.

    The kernel lets its owner read attributes only if the mode does.
    """

    def read() -> bytes | None:
        return xattr.get_fd(fd, mark) if name is None else xattr.get_at(fd, name, mark)

    return as_owner(read, (fd, name))


def upper_stat(fd: int, name: bytes) -> os.stat_result:
    """Return the stat of `name` in the directory `fd` of the upper, of a link itself.

    The directory may be one that even its owner may not search: what is open in it goes on.
    """
    return as_owner(lambda: os.stat(name, dir_fd=fd, follow_symlinks=False), (fd, None))


def upper_names(fd: int) -> list[bytes]:
    """Return the names in the directory `fd` of the upper, also if its owner may not list it.

    It is opened anew, since all who read from `fd` share its position.
    """
    return as_owner(lambda: os.listdir(b"/proc/self/fd/%d" % fd), (fd, None))


@contextmanager
def _our_turn() -> Iterator[None]:
    global _turn
    with _widening:
        _turn += 1
        try:
            yield
        finally:
            _turn += 1


def modes_settled() -> AbstractContextManager[object]:
    """Return a context in which no mode is widened; the caller takes no other lock."""
    return _widening


def settled(read: Callable[[], os.stat_result]) -> os.stat_result:
    """Return `read()`, called again until no mode was widened meanwhile."""
    while True:
        before = _turn
        if before % 2:
            with _widening:
                continue
        st = read()
        if _turn == before:
            return st


def may_be_widened(st: os.stat_result) -> bool:
    """Tell whether the mode of `st`, which was read just now, may be one that is widened."""
    return bool(_widened) and (st.st_dev, st.st_ino) in _widened


def _note(st: os.stat_result) -> None:
    """Note that the mode of a file is about to be widened; forget those of long ago."""
    now = time.monotonic()
    for key, when in list(_widened.items()):
        if now - when > _LATELY_S:
            del _widened[key]
    _widened[st.st_dev, st.st_ino] = now


def _widen(stack: ExitStack, place: Place) -> bool:
    """Give the owner of `place` all rights until `stack` ends; tell whether a mode was changed.

    If its directory may not be searched, that is widened too.
    """
    fd, name = place
    if name is None:
        return stack.enter_context(_wide(fd))
    changed = False
    # An fd: the operation may give the name to another file.
    try:
        found = _open_path(stack, name, fd)
    except PermissionError:
        changed = stack.enter_context(_wide(fd))
        found = _open_path(stack, name, fd)
    return stack.enter_context(_wide(found)) or changed


def _open_path(stack: ExitStack, name: bytes, dir_fd: int) -> int:
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    stack.callback(os.close, fd)
    return fd


@contextmanager
def _wide(fd: int) -> Iterator[bool]:
    """Give the owner of `fd` all rights meanwhile; yields whether that changed its mode."""
    st = os.stat(fd)
    mode = stat.S_IMODE(st.st_mode)
    wide = mode | (stat.S_IRWXU if stat.S_ISDIR(st.st_mode) else stat.S_IRUSR | stat.S_IWUSR)
    if st.st_uid != os.geteuid() or wide == mode or stat.S_ISLNK(st.st_mode):
        yield False
        return
    path = b"/proc/self/fd/%d" % fd  # the fd may be O_PATH, which fchmod(2) refuses
    _note(st)
    os.chmod(path, wide)
    try:
        yield True
    finally:
        os.chmod(path, mode)
        _note(st)
