"""The one seam: what a filesystem offers and every transport carries.

Each method is one operation of the kernel's VFS on a nodeid.  All are
synchronous and may be called from several threads at once; a transport calls
those that may block for long (see `Filesystem.slow_open` and `slow_setattr`)
from a worker thread.

Two guarantees of the kernel are relied upon.  It holds a reference to every inode
that a call names, parents included, until the call is answered.  And it never has two
calls at once that change the names in one directory, or the names of one file (the
inode locks of directory-locking.rst).

Errors: every method raises `OSError` whose errno is the answer.  A nodeid or
fh that was never handed out, or was given back, raises ESTALE or EBADF.

nlookup: a method that returns an `Attr` for a name (`lookup`, `create`,
`mknod`, `mkdir`, `symlink`, `link`) counts one reference for the kernel, given
back by `forget`.  `getattr` and `setattr` count none.

`uid` and `gid` are the filesystem ids of the calling process as the kernel
hands them over; permission has been checked by the kernel
(`default_permissions`), and here they only own what is created.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Protocol

from unionfs.credentials import Credentials
from unionfs.gate import Gate
from unionfs.types import Attr, Backing, Buffer, DirEntry, Fh, Frozen, NodeId, Renewed, SetAttr

# A copy into the page cache below this size in bytes is cheaper than a hop to a thread.
INLINE_WRITE = 256 << 10

# A change that needs a whole copy_up, for asking `slow_setattr` whether that is slow.
TOUCH = SetAttr(mtime_ns=0)


def is_slow_to_move(fs: Filesystem, parent: NodeId, name: bytes) -> bool:
    """Tell whether a rename of `name` in `parent` copies so much that it belongs in a worker."""
    attr = fs.lookup(parent, name)
    if attr is None:
        return False
    try:
        return fs.slow_setattr(attr.nodeid, TOUCH)
    finally:
        fs.forget(attr.nodeid, 1)


class Filesystem(Protocol):
    """A union as the transports see it.

    A transport passes the `gate` for every call, so that `freeze` can wait until no
    call is under way.
    """

    gate: Gate

    def may_hang(self) -> bool:
        """Tell whether a call may never return: a layer is on a network or FUSE filesystem.

        Then the transport makes every call but `forget` from a thread of its own.
        """
        ...

    # -- names and inodes --

    def lookup(self, parent: NodeId, name: bytes) -> Attr | None:
        """Return the attributes of `name` in directory `parent`, None where it is absent.

        Also answers b"." and b"..".
        """
        ...

    def forget(self, nodeid: NodeId, nlookup: int) -> None:
        """Give back `nlookup` references to `nodeid`.  Never raises."""
        ...

    def getattr(self, nodeid: NodeId, fh: Fh | None = None) -> Attr:
        """Return the attributes of `nodeid`; through `fh` where one is given."""
        ...

    def setattr(
        self, nodeid: NodeId, change: SetAttr, fh: Fh | None, writer: Credentials | None = None
    ) -> Attr:
        """Apply `change`, after a copy_up where needed, and return the new attributes.

        A change of size takes suid and sgid away, as truncate(2) by `writer` without
        CAP_FSETID does; with None it does not.
        """
        ...

    def slow_setattr(self, nodeid: NodeId, change: SetAttr) -> bool:
        """Tell whether `setattr` would copy so much data that it belongs in a worker."""
        ...

    def readlink(self, nodeid: NodeId) -> bytes: ...

    def access(self, nodeid: NodeId, mask: int, uid: int, gid: int) -> None:
        """Raise EACCES where access(2) with `mask` would; EROFS for writing read-only."""
        ...

    def statfs(self) -> os.statvfs_result: ...

    # -- changing directories --

    def mknod(
        self, parent: NodeId, name: bytes, mode: int, rdev: int, umask: int, uid: int, gid: int
    ) -> Attr: ...

    def mkdir(
        self, parent: NodeId, name: bytes, mode: int, umask: int, uid: int, gid: int
    ) -> Attr: ...

    def symlink(self, parent: NodeId, name: bytes, target: bytes, uid: int, gid: int) -> Attr: ...

    def link(self, nodeid: NodeId, new_parent: NodeId, new_name: bytes) -> Attr: ...

    def unlink(self, parent: NodeId, name: bytes) -> None: ...

    def rmdir(self, parent: NodeId, name: bytes) -> None: ...

    def rename(
        self, parent: NodeId, name: bytes, new_parent: NodeId, new_name: bytes, flags: int
    ) -> None:
        """Rename as renameat2(2): `flags` 0, RENAME_NOREPLACE or RENAME_EXCHANGE."""
        ...

    # -- files --

    def open(self, nodeid: NodeId, flags: int) -> Fh:
        """Open `nodeid` as open(2) with `flags`; return the fh, closed by `release`."""
        ...

    def slow_open(self, nodeid: NodeId, flags: int) -> bool:
        """Tell whether `open` would copy so much data that it belongs in a worker."""
        ...

    def create(
        self, parent: NodeId, name: bytes, mode: int, flags: int, umask: int, uid: int, gid: int
    ) -> tuple[Attr, Fh]:
        """Create and open a regular file; return its attributes and its fh."""
        ...

    def read(self, fh: Fh, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`; fewer only at the end of the file."""
        ...

    def read_nowait(self, fh: Fh, offset: int, size: int) -> Buffer | None:
        """As `read` where the page cache has it all, else None: call `read` in a worker."""
        ...

    def write(self, fh: Fh, offset: int, data: Buffer) -> int:
        """Write all of `data` at `offset`; return its length in bytes."""
        ...

    def has_suid(self, fh: Fh) -> bool:
        """Tell whether the file behind `fh` has suid or sgid."""
        ...

    def drop_suid(self, fh: Fh, writer: Credentials) -> bool:
        """Take suid and sgid away, as write(2) by `writer` without CAP_FSETID does.

        Returns whether the mode changed.  `write`, `fallocate` and `copy_range`
        leave the mode alone: the transport calls this first.
        """
        ...

    def flush(self, fh: Fh) -> None: ...

    def fsync(self, fh: Fh, datasync: bool) -> None: ...

    def release(self, fh: Fh) -> None:
        """Close `fh`; `flush` reports the errors of close(2)."""
        ...

    # -- reading directories --

    def opendir(self, nodeid: NodeId) -> Fh: ...

    def readdir(self, fh: Fh, offset: int) -> Iterator[DirEntry]:
        """Yield the entries behind cookie `offset`, b"." and b".." first.

        Names made or removed between two calls neither repeat nor hide others.
        """
        ...

    def fsyncdir(self, fh: Fh) -> None: ...

    def releasedir(self, fh: Fh) -> None: ...

    # -- extended attributes --

    def getxattr(self, nodeid: NodeId, name: bytes) -> bytes:
        """Return a value; ENODATA where there is none."""
        ...

    def listxattr(self, nodeid: NodeId) -> list[bytes]: ...

    def setxattr(self, nodeid: NodeId, name: bytes, value: bytes, flags: int) -> None:
        """Set a value; `flags` are XATTR_CREATE and XATTR_REPLACE of setxattr(2)."""
        ...

    def removexattr(self, nodeid: NodeId, name: bytes) -> None: ...

    # -- the mount as a whole --

    def counters(self) -> dict[str, int]:
        """Return the counts that SIGUSR1 logs: inodes, handles, open fds, copy_ups and so on."""
        ...

    def writing(self) -> list[bytes]:
        """Return the paths of the files that are open for writing."""
        ...

    def freeze(self, upper_to: bytes, *, ahead: bool = False) -> Frozen:
        """Move the upper to the new path `upper_to` as the topmost lower, and start a new upper.

        Programs that use the union do not notice.  Files in use are copied while
        requests wait: those open for writing, and with passthrough those open for reading
        as well.  With `ahead` they are copied once before that too, so that the wait is
        shorter.  Called outside the gate; a second call waits for the first.
        """
        ...

    def reread(self, path: bytes | None) -> list[tuple[NodeId, NodeId, bytes]]:
        """Forget the content of all directories, or of the one at `path`.

        For layers that were changed from outside.  Returns nodeid, parent's nodeid
        and name of the inodes that the kernel should forget too.
        """
        ...

    def close(self) -> None:
        """Write back, clean the workdir, close every fd.  Idempotent.

        Called after the unmount, when no other call is under way.
        """
        ...


class Notifier(Protocol):
    """Tells the kernel to forget what it has cached of the filesystem.

    For changes that come from outside the mount; the kernel knows of those it requested.
    Each method may wait until requests under way are answered, so the thread that
    answers them must not call it.
    """

    def forget_attributes(self, nodeid: NodeId) -> None:
        """Forget size, times, links and ACLs of `nodeid`."""
        ...

    def forget_inode(self, nodeid: NodeId) -> None:
        """Forget its attributes and its pages, or for a directory its listing."""
        ...

    def forget_name(self, parent: NodeId, name: bytes) -> None:
        """Forget what `name` is in `parent`, or that it is absent; and the listing of `parent`."""
        ...


class Extents(Protocol):
    """The requests of the kernel that pyfuse3 does not carry.

    Ranges of files (`fallocate`, `lseek`, `copy_range`), reads into a buffer of the
    transport, files without a name, struct statx, inode flags, directories without an
    fh, and syncfs.
    """

    def readinto(self, fh: Fh, offset: int, view: memoryview, wait: bool) -> int | None:
        """Fill `view` from `offset`; return the bytes read, fewer only at the end of the file.

        Without `wait` it returns None where the page cache does not hold all of it.
        """
        ...

    def fallocate(self, fh: Fh, mode: int, offset: int, length: int) -> None: ...

    def lseek(self, fh: Fh, offset: int, whence: int) -> int:
        """Return the offset of the next data or hole (SEEK_DATA, SEEK_HOLE)."""
        ...

    def copy_range(
        self, fh: Fh, offset: int, target_fh: Fh, target_offset: int, length: int
    ) -> int:
        """Copy between two open files; return the bytes copied."""
        ...

    def tmpfile(
        self, parent: NodeId, mode: int, flags: int, umask: int, uid: int, gid: int
    ) -> tuple[Attr, Fh]:
        """Create and open a file without a name (O_TMPFILE); `link` can give it one."""
        ...

    def statx(self, nodeid: NodeId, mask: int) -> tuple[Attr, bytearray]:
        """Return the attributes, and struct statx with the same, by the `mask` of statx(2)."""
        ...

    def fileattr(self, nodeid: NodeId, command: int, data: bytes) -> bytes:
        """Answer FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR and their setting counterparts."""
        ...

    def listdir(self, nodeid: NodeId, offset: int) -> Iterator[DirEntry]:
        """As `readdir`, for a directory without an fh."""
        ...

    def tells_directory_reads(self) -> bool:
        """Tell whether the kernel has to ask for each listing, since it changes the atime."""
        ...

    def syncdir(self, nodeid: NodeId) -> None:
        """As `fsyncdir`, for a directory without an fh."""
        ...

    def syncfs(self) -> None:
        """Write the upper's whole filesystem back, as syncfs(2)."""
        ...


class ExtendedFilesystem(Filesystem, Extents, Protocol):
    """All requests of the kernel's protocol, without passthrough."""


class Passthrough(Protocol):
    """What the kernel may read and write by itself, and what it may keep.

    The transport decides how an inode is open in the kernel and what is in its cache;
    this tells what the union guarantees of the real files.
    """

    def note_passthrough(self) -> None:
        """Say that the kernel reads and writes real files by itself from now on."""
        ...

    def stack_depth(self) -> int:
        """Return 2 where a layer is on a stacked filesystem such as overlayfs, else 1."""
        ...

    def backing(self, fh: Fh) -> Backing | None:
        """Return the real file behind `fh`, None for a small file of a lower.

        Reading a small file once through this process, into the page cache, is cheaper.
        """
        ...

    def first_content(self, fh: Fh, limit: int, wait: bool) -> bytearray | None:
        """Return all that an unchanged lower file of at most `limit` bytes holds.

        None for any other file, for an empty one, and where it cannot be read.
        Without `wait` it raises `BlockingIOError` where a disk has to be waited for.
        """
        ...

    def is_as_found(self, fh: Fh) -> bool:
        """Tell whether the file behind `fh` is a lower file that nobody has changed."""
        ...

    def is_lasting(self, fh: Fh) -> bool:
        """Tell whether `fh` may stay open, to be shared by later opens of its file for reading.

        True for an fh open for reading on a lower file, which neither changes nor goes away.
        """
        ...

    def is_current(self, fh: Fh, nodeid: NodeId, version: int) -> bool:
        """Tell whether `nodeid` is still the inode behind `fh`, after `version` copy-ups."""
        ...

    def is_of(self, fh: Fh, nodeid: NodeId) -> bool:
        """Tell whether `nodeid` is still the inode behind `fh`."""
        ...

    def will_stay(self, nodeid: NodeId, version: int) -> bool:
        """Tell whether a change of data leaves the file `nodeid` its real file.

        That is the one after `version` copy-ups.  False where that was or will be copied up.
        """
        ...

    def renew(self, nodeid: NodeId) -> Renewed | None:
        """Let the names of the file `nodeid` lead to a new nodeid from now on.

        Handles that are open keep the old one.  For a file that was copied up while
        the kernel reads its lower by passthrough, which allows an inode one real file
        at a time.  The kernel may go on to use the old nodeid for other names than the
        one it looks up next.  Returns None for a file that has no name.
        """
        ...


class DirectFilesystem(ExtendedFilesystem, Passthrough, Protocol):
    """A filesystem for a transport that speaks the kernel's protocol itself."""

    def count_also(self, others: Callable[[], dict[str, int]]) -> None:
        """Let `counters` include the counts that `others` returns, such as requests by opcode."""
        ...
