"""What is built beside its place, to appear there whole, and what a killed process left of it.

Decided here and only here: what such a thing is called, and when it is a leftover.  A file has
no name until it is whole, if the filesystem can make such files (O_TMPFILE).  Any other file, and
a directory, is `.NAME.pyunion-HEX` in the directory where it is to be NAME, and locked by flock(2)
while it is built.  Who builds for the same NAME next removes those of the same user that no
process has locked.

Source: open(2) "O_TMPFILE", link(2), rename(2), flock(2).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from layerstore.db.file_locks import is_at, try_lock
from unionfs.syscalls import removal

_MARK = ".pyunion-"
_HEX = 16  # characters
_LONGEST = 255  # bytes: NAME_MAX
_MAKE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What filesystems answer that cannot make a file without a name, as those before Linux 3.11 do.
_NAMED_ONLY = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


@contextmanager
def new_file(folder: int, name: str, mode: int) -> Iterator[int]:
    """Make a file that is `name` in the directory open as `folder` when the block has ended.

    Yields its descriptor, open for reading and writing, which is closed here.  The file is synced
    before it gets its name, in the place of what has that name, and then the directory is.  If
    the block fails nothing is left.  Raises OSError.
    """
    sweep(folder, name)
    fd = open_nameless(folder, mode)
    staged = None
    if fd is None:
        fd, staged = _made(folder, name, mode)
    try:
        yield fd
        os.fsync(fd)
        if staged is None:
            try:
                _link(fd, folder, name)
            except FileExistsError:
                _lock(fd)
                staged = _new_name(name)
                _link(fd, folder, staged)
        if staged is not None:
            os.rename(staged, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    except BaseException:
        if staged is not None:
            with suppress(FileNotFoundError):
                os.unlink(staged, dir_fd=folder)
        raise
    finally:
        os.close(fd)


def open_nameless(folder: int, mode: int) -> int | None:
    """Make a file without a name that can be given one; None if the filesystem has none.

    The caller closes it.
    """
    try:
        fd = os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, mode, dir_fd=folder)
    except OSError as error:
        if error.errno not in _NAMED_ONLY:
            raise
        return None
    if os.path.exists(_place(fd)):
        return fd
    os.close(fd)  # there is no /proc, without which only root can name it
    return None


def _place(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _link(fd: int, folder: int, name: str) -> None:
    """Give the file its first name."""
    # Only with the fd of a directory does Python's link() follow the first of both.
    os.link(_place(fd), name, src_dir_fd=folder, dst_dir_fd=folder)


def _made(folder: int, name: str, mode: int) -> tuple[int, str]:
    """Make a locked file beside `name`; return its descriptor and its name."""
    while True:
        staged = _new_name(name)
        fd = os.open(staged, _MAKE, mode, dir_fd=folder)
        if _lock(fd) and is_at(fd, staged, folder):
            return fd, staged
        os.close(fd)  # swept before it was locked


class NewDirectory:
    """A directory that is built beside `target`; the caller renames it, or removes it.

    The caller closes it, which may be done again.  Raises OSError.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self._closed = False
        self._folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sweep(self._folder, target.name)
            self.fd, self._name = self._made()
        except BaseException:
            os.close(self._folder)
            raise

    def _made(self) -> tuple[int, str]:
        while True:
            staged = _new_name(self.target.name)
            os.mkdir(staged, 0o700, dir_fd=self._folder)
            with suppress(FileNotFoundError):  # swept before it could be locked
                fd = os.open(staged, _DIRECTORY, dir_fd=self._folder)
                if _lock(fd) and is_at(fd, staged, self._folder):
                    return fd, staged
                os.close(fd)

    @property
    def path(self) -> Path:
        """Where it is until it is renamed."""
        return self.target.with_name(self._name)

    def close(self) -> None:
        """Remove what has not been renamed, and let go of the lock."""
        if self._closed:
            return
        self._closed = True
        try:
            removal.remove_tree(self._folder, os.fsencode(self._name), protected=True)
        finally:
            os.close(self.fd)
            os.close(self._folder)


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Make an empty directory for the block, where programs keep such; raises OSError."""
    from tempfile import gettempdir  # few commands need it

    with closing(NewDirectory(Path(gettempdir()) / "pyunion")) as made:
        yield made.path


def sweep(folder: int, name: str) -> None:
    """Remove what ended processes of this user left in `folder` of their work on `name`."""
    begin = _begin(name)
    # A directory that may not be listed, or a file that is gone, hinders no new one.
    with suppress(OSError):
        for found in os.listdir(folder):
            if found.startswith(begin) and len(found) == len(begin) + _HEX:
                with suppress(OSError):
                    _remove_left(folder, found)


def _remove_left(folder: int, name: str) -> None:
    fd = os.open(name, _LOOK, dir_fd=folder)
    try:
        if os.fstat(fd).st_uid == os.geteuid() and try_lock(fd) and is_at(fd, name, folder):
            removal.remove_tree(folder, os.fsencode(name), protected=True)
    finally:
        os.close(fd)


def _begin(name: str) -> str:
    room = _LONGEST - len(_MARK) - _HEX - 1
    return "." + os.fsdecode(os.fsencode(name)[:room]) + _MARK


def _new_name(name: str) -> str:
    return _begin(name) + os.urandom(_HEX // 2).hex()


def _lock(fd: int) -> bool:
    """Lock what was just made; False if another process has it, to see whether it is left over.

    On a filesystem without locks nothing there is ever taken for a leftover.
    """
    try:
        return try_lock(fd)
    except OSError:
        return True
