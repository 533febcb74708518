"""One set of operations on a tree, whatever carries them, so that two trees can be compared.

A `Driver` works on paths relative to its root (b"" is the root itself) and
never follows a symbolic link in the last component.  It raises `OSError` as
the system call would.  `OsDriver` is for any mounted directory;
`tests.helpers.core_driver.CoreDriver` drives the union core without a mount.

Opening a fifo, and a symbolic link in the middle of a path, are outside the
contract: `OsDriver` would follow the one and both may block on the other.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple, Protocol

from tests.helpers import calls


class Stat(NamedTuple):
    """What stat(2) says, as far as a union has a say in it."""

    mode: int
    uid: int
    gid: int
    size: int
    nlink: int
    rdev: int
    ino: int
    mtime_ns: int

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Entry(NamedTuple):
    """One name of a directory listing; `.` and `..` are left out."""

    name: bytes
    kind: int  # as in st_mode, made from d_type
    ino: int  # d_ino


def stat_of(st: os.stat_result) -> Stat:
    return Stat(
        st.st_mode,
        st.st_uid,
        st.st_gid,
        st.st_size,
        st.st_nlink,
        st.st_rdev,
        st.st_ino,
        st.st_mtime_ns,
    )


class Driver(Protocol):
    """The operations of one tree.  A handle is whatever `open` returned."""

    def lstat(self, path: bytes) -> Stat: ...

    def listdir(self, path: bytes) -> list[Entry]: ...

    def readlink(self, path: bytes) -> bytes: ...

    def read(self, path: bytes) -> bytes: ...

    def listxattr(self, path: bytes) -> list[str]: ...

    def getxattr(self, path: bytes, name: str) -> bytes: ...

    def create(self, path: bytes, mode: int) -> None: ...

    def write(self, path: bytes, offset: int, data: bytes) -> int: ...

    def append(self, path: bytes, data: bytes) -> int: ...

    def truncate(self, path: bytes, size: int) -> None: ...

    def mkdir(self, path: bytes, mode: int) -> None: ...

    def mknod(self, path: bytes, mode: int, rdev: int) -> None: ...

    def symlink(self, target: bytes, path: bytes) -> None: ...

    def link(self, old: bytes, new: bytes) -> None: ...

    def unlink(self, path: bytes) -> None: ...

    def rmdir(self, path: bytes) -> None: ...

    def rename(self, old: bytes, new: bytes, flags: int) -> None: ...

    def chmod(self, path: bytes, mode: int) -> None: ...

    def chown(self, path: bytes, uid: int, gid: int) -> None: ...

    def utimens(self, path: bytes, atime_ns: int, mtime_ns: int) -> None: ...

    def setxattr(self, path: bytes, name: str, value: bytes, flags: int) -> None: ...

    def removexattr(self, path: bytes, name: str) -> None: ...

    def open(self, path: bytes, flags: int, mode: int) -> int: ...

    def pread(self, handle: int, size: int, offset: int) -> bytes: ...

    def pwrite(self, handle: int, data: bytes, offset: int) -> int: ...

    def fstat(self, handle: int) -> Stat: ...

    def ftruncate(self, handle: int, size: int) -> None: ...

    def fsync(self, handle: int) -> None: ...

    def close(self, handle: int) -> None: ...


_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OsDriver:
    """The tree beneath a directory, through the operating system."""

    def __init__(self, root: bytes | os.PathLike[str]) -> None:
        self.root = os.fsencode(root)

    def at(self, path: bytes) -> bytes:
        return self.root + b"/" + path if path else self.root

    def _not_a_link(self, path: bytes) -> bytes:
        full = self.at(path)
        if stat.S_ISLNK(os.lstat(full).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), full)
        return full

    def lstat(self, path: bytes) -> Stat:
        return stat_of(os.lstat(self.at(path)))

    def listdir(self, path: bytes) -> list[Entry]:
        return [
            Entry(entry.name, entry.d_type << 12, entry.d_ino)
            for entry in calls.all_dirents(self.at(path))
            if entry.name not in (b".", b"..")
        ]

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(self.at(path))

    def read(self, path: bytes) -> bytes:
        fd = os.open(self.at(path), os.O_RDONLY | _OPEN)
        try:
            pieces = []
            while piece := os.read(fd, 1 << 20):
                pieces.append(piece)
            return b"".join(pieces)
        finally:
            os.close(fd)

    def listxattr(self, path: bytes) -> list[str]:
        return sorted(os.listxattr(self.at(path), follow_symlinks=False))

    def getxattr(self, path: bytes, name: str) -> bytes:
        return os.getxattr(self.at(path), name, follow_symlinks=False)

    def create(self, path: bytes, mode: int) -> None:
        os.close(os.open(self.at(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, mode))

    def write(self, path: bytes, offset: int, data: bytes) -> int:
        fd = os.open(self.at(path), os.O_WRONLY | _OPEN)
        try:
            return os.pwrite(fd, data, offset)
        finally:
            os.close(fd)

    def append(self, path: bytes, data: bytes) -> int:
        fd = os.open(self.at(path), os.O_WRONLY | os.O_APPEND | _OPEN)
        try:
            return os.write(fd, data)
        finally:
            os.close(fd)

    def truncate(self, path: bytes, size: int) -> None:
        os.truncate(self._not_a_link(path), size)

    def mkdir(self, path: bytes, mode: int) -> None:
        os.mkdir(self.at(path), mode)

    def mknod(self, path: bytes, mode: int, rdev: int) -> None:
        os.mknod(self.at(path), mode, rdev)

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, self.at(path))

    def link(self, old: bytes, new: bytes) -> None:
        os.link(self.at(old), self.at(new), follow_symlinks=False)

    def unlink(self, path: bytes) -> None:
        os.unlink(self.at(path))

    def rmdir(self, path: bytes) -> None:
        os.rmdir(self.at(path))

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        calls.renameat2(self.at(old), self.at(new), flags)

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self._not_a_link(path), mode)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        os.chown(self.at(path), uid, gid, follow_symlinks=False)

    def utimens(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        os.utime(self.at(path), ns=(atime_ns, mtime_ns), follow_symlinks=False)

    def setxattr(self, path: bytes, name: str, value: bytes, flags: int) -> None:
        os.setxattr(self.at(path), name, value, flags, follow_symlinks=False)

    def removexattr(self, path: bytes, name: str) -> None:
        os.removexattr(self.at(path), name, follow_symlinks=False)

    def open(self, path: bytes, flags: int, mode: int) -> int:
        return os.open(self.at(path), flags | _OPEN, mode)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        return os.pread(handle, size, offset)

    def pwrite(self, handle: int, data: bytes, offset: int) -> int:
        return os.pwrite(handle, data, offset)

    def fstat(self, handle: int) -> Stat:
        return stat_of(os.fstat(handle))

    def ftruncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def fsync(self, handle: int) -> None:
        os.fsync(handle)

    def close(self, handle: int) -> None:
        os.close(handle)
