"""The interface between the transports and the core.

Each method is one operation of the kernel's VFS on a nodeid.  All are
synchronous and may be called from several threads at once.  A transport calls
those that may block for long (see `Filesystem.slow_open` and `slow_setattr`)
from a worker thread.

The core relies on two guarantees of the kernel.  It holds a reference to every inode
that a call names, parents included, until the call is answered.  And it never makes two
calls at once that change the names in one directory, or the names of one file (the
inode locks of directory-locking.rst).

Errors: every method raises `OSError` whose errno is the answer.  A nodeid or
fh that was never returned, or that was dropped, raises ESTALE or EBADF.

nlookup: a method that returns an `Attr` for a name (`lookup`, `create`,
`mknod`, `mkdir`, `symlink`, `link`) counts one reference for the kernel, which `forget`
drops.  `getattr` and `setattr` count none.

`uid` and `gid` are the filesystem ids of the calling process, as the kernel sends
them.  The kernel has checked the permissions (`default_permissions`); here they are only
the owner of what is created.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from unionfs.credentials import Credentials
from unionfs.gate import Gate
from unionfs.light_typing import Protocol
from unionfs.types import (
    Attr,
    Backing,
    Buffer,
    DirEntry,
    Fh,
    Frozen,
    Listed,
    LookedUp,
    NodeId,
    Renewed,
    Restored,
    SetAttr,
    StIno,
)

# A write of fewer bytes, into the page cache, takes less time than a worker thread.
INLINE_WRITE = 256 << 10

# A change that needs a whole copy_up: with it `slow_setattr` tells whether that is slow.
TOUCH = SetAttr(mtime_ns=0)


class Filesystem(Protocol):
    """A union as the transports see it.

    A transport passes the `gate` for every call, so that `freeze` can wait until no
    call is under way.
    """

    gate: Gate

    def counts_reads(self) -> bool:
        """Tell whether each read changes an atime, so that the kernel must send every read."""
        ...

    def may_hang(self) -> bool:
        """Tell whether a call may never return: a layer is on a network or FUSE filesystem.

        Then the transport makes every call but `forget` from a thread of its own.
        """
        ...

    # -- names and inodes --

    def lookup(self, parent: NodeId, name: bytes) -> Attr | None:
        """Return the attributes of `name` in directory `parent`, None if it is absent.

        `name` may be b"." or b"..".
        """
        ...

    def forget(self, nodeid: NodeId, nlookup: int) -> None:
        """Drop `nlookup` references to `nodeid`.  Never raises."""
        ...

    def getattr(self, nodeid: NodeId, fh: Fh | None = None) -> Attr:
        """Return the attributes of `nodeid`, of the open file `fh` if one is given."""
        ...

    def setattr(
        self, nodeid: NodeId, change: SetAttr, fh: Fh | None, writer: Credentials | None = None
    ) -> Attr:
        """Apply `change`, after a copy_up if one is needed, and return the new attributes.

        A change of size removes suid and sgid, as truncate(2) does if `writer` has no
        CAP_FSETID; with None it does not.  So does a change of nothing, which is a chown(2) of
        neither id, unless it only comes before a write.  Raises EPERM if `writer` may not do it.
        A chown by `writer` takes sgid away also without execution by a group that is not theirs.
        """
        ...

    def slow_setattr(self, nodeid: NodeId, change: SetAttr) -> bool:
        """Tell whether `setattr` would copy so much data that a worker should do it."""
        ...

    def slow_rename(self, parent: NodeId, name: bytes) -> bool:
        """Tell the same of `rename`, of a name that the kernel has looked up."""
        ...

    def known(self, parent: NodeId, name: bytes) -> NodeId | None:
        """Return the nodeid of `name` in directory `parent` if the kernel may have looked it up."""
        ...

    def readlink(self, nodeid: NodeId) -> bytes: ...

    def access(self, nodeid: NodeId, mask: int, uid: int, gid: int) -> None:
        """Raise the error of access(2) with `mask`, such as EROFS in a read-only union."""
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
        """Open `nodeid` as open(2) with `flags`; return the fh, which `release` closes."""
        ...

    def slow_open(self, nodeid: NodeId, flags: int) -> bool:
        """Tell whether `open` would copy so much data that a worker should do it."""
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
        """Like `read` if the page cache has all of it; else None: call `read` in a worker."""
        ...

    def write(self, fh: Fh, offset: int, data: Buffer) -> int:
        """Write all of `data` at `offset`; return its length in bytes."""
        ...

    def only_appends(self, fh: Fh) -> bool:
        """Tell whether `fh`, opened for writing with O_APPEND, is of an append-only file.

        `write` then appends, whatever the offset.  The kernel, which does not know of the
        mark, must not map the file for writing.
        """
        ...

    def has_suid(self, fh: Fh) -> bool:
        """Tell whether the file behind `fh` has suid or sgid."""
        ...

    def drop_suid(self, fh: Fh, writer: Credentials) -> bool:
        """Remove suid and sgid, as write(2) does if `writer` has no CAP_FSETID.

        Returns whether the mode changed.  `write`, `fallocate` and `copy_range`
        do not change the mode, so the transport calls this first.
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
        """Yield the entries after cookie `offset`, b"." and b".." first.

        If names are made or removed between two calls, other names are neither repeated
        nor left out.
        """
        ...

    def fsyncdir(self, fh: Fh) -> None: ...

    def releasedir(self, fh: Fh) -> None: ...

    # -- extended attributes --

    def getxattr(self, nodeid: NodeId, name: bytes) -> bytes:
        """Return a value; ENODATA if there is none."""
        ...

    def lacks_xattr(self, nodeid: NodeId, name: bytes) -> bool:
        """Tell whether `getxattr` would raise ENODATA, as far as that is known from before."""
        ...

    def listxattr(self, nodeid: NodeId) -> list[bytes]: ...

    def setxattr(self, nodeid: NodeId, name: bytes, value: bytes, flags: int) -> None:
        """Set a value; `flags` are XATTR_CREATE and XATTR_REPLACE of setxattr(2)."""
        ...

    def removexattr(self, nodeid: NodeId, name: bytes) -> None: ...

    # -- the mount as a whole --

    def counters(self) -> dict[str, int]:
        """Return the counts that SIGUSR1 logs, such as inodes, handles, open fds, copy_ups."""
        ...

    def writing(self) -> list[bytes]:
        """Return the paths of the files that are open for writing."""
        ...

    def freeze(self, upper_to: bytes, *, ahead: bool = False) -> Frozen:
        """Move the upper to the new path `upper_to` as the topmost lower, and start a new upper.

        Programs that use the union do not notice it.  Files in use are copied while
        requests wait: those open for writing, and with passthrough those open for reading
        too.  With `ahead` they are copied once before that as well, so that requests wait
        less.  Called outside the gate; a second call waits for the first.
        """
        ...

    def restore(
        self, path: bytes, *, dry_run: bool = False, along: Sequence[bytes] = ()
    ) -> Restored:
        """Make `path` again what the lowers have; with `dry_run` only tell whether it differs.

        A directory is restored with everything in it.  What the lowers have there and the union
        shows at another path is refused, unless that is one of those that the caller restores
        `along` with it.  Called outside the gate.
        """
        ...

    def reread(self, path: bytes | None) -> list[tuple[NodeId, NodeId, bytes]]:
        """Forget the content of all directories, or of the one at `path`.

        This is for layers that were changed from outside.  Returns nodeid, parent's nodeid
        and name of the inodes that the kernel should forget too.
        """
        ...

    def close(self) -> None:
        """Write the upper back, empty the workdir, close every fd.  Idempotent.

        Called after the unmount, when no other call is under way.
        """
        ...


class Notifier(Protocol):
    """Tells the kernel to forget what it has cached of the filesystem.

    This is for changes from outside the mount; the kernel knows the changes that it
    requested.  Each method may wait until requests under way are answered, so a thread
    that answers requests must not call it.
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

        Without `wait` it returns None if the page cache does not have all of it, unless the
        disk was quick lately.
        """
        ...

    def fallocate(self, fh: Fh, mode: int, offset: int, length: int) -> None: ...

    def lseek(self, fh: Fh, offset: int, whence: int) -> int:
        """Return the offset of the next data or hole (SEEK_DATA, SEEK_HOLE)."""
        ...

    def copy_range(
        self, fh: Fh, offset: int, target_fh: Fh, target_offset: int, length: int
    ) -> int:
        """Copy between two open files; return the number of bytes copied."""
        ...

    def tmpfile(
        self, parent: NodeId, mode: int, flags: int, umask: int, uid: int, gid: int
    ) -> tuple[Attr, Fh]:
        """Create and open a file without a name (O_TMPFILE); `link` can give it one."""
        ...

    def statx(self, nodeid: NodeId, mask: int) -> tuple[Attr, bytearray]:
        """Return the attributes, also as struct statx with the fields of `mask`; see statx(2)."""
        ...

    def fileattr(self, nodeid: NodeId, command: int, data: bytes) -> bytes:
        """Answer FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR and their setting counterparts."""
        ...

    def listdir(self, nodeid: NodeId, offset: int) -> Iterator[DirEntry]:
        """Like `readdir`, for a directory without an fh."""
        ...

    def list_looked_up(
        self, nodeid: NodeId, offset: int, what: LookedUp, tell: Callable[[NodeId], object]
    ) -> Iterator[Listed]:
        """Do as `listdir`, and as `lookup` for each of `what`.

        A name that `lookup` would fail for has no attributes, and its st_ino may be that of the
        real file.  `tell` is called with the nodeid of each directory that is
        looked up, before its attributes are looked at if the kernel may know it already.  The
        caller drops the reference to an entry that it does not use.
        """
        ...

    def syncdir(self, nodeid: NodeId) -> None:
        """Like `fsyncdir`, for a directory without an fh."""
        ...

    def syncfs(self) -> None:
        """Write the upper's whole filesystem back, as syncfs(2)."""
        ...


class ExtendedFilesystem(Filesystem, Extents, Protocol):
    """All requests of the kernel's protocol, without passthrough."""


class Passthrough(Protocol):
    """What the kernel may read and write by itself, and what it may keep.

    The transport decides how the kernel has an inode open and what it caches; these
    methods say what the union guarantees about the real files.
    """

    def watch_freed(self, freed: Callable[[NodeId], object]) -> None:
        """Call `freed` for each inode to which the kernel has no reference left.

        It is called before another inode can get the nodeid, with a lock held, so it must
        be short and call nothing of the filesystem.
        """
        ...

    def ask_of_locks(self, is_locked: Callable[[StIno], bool]) -> None:
        """Ask `is_locked` before a restore gives a file another st_ino.

        It tells whether a lock is kept by that number.  It is called while requests wait, and
        must call nothing of the filesystem.
        """
        ...

    def note_passthrough(self) -> None:
        """Say that the kernel reads and writes real files by itself from now on."""
        ...

    def stack_depth(self) -> int:
        """Return 2 if a layer is on a stacked filesystem such as overlayfs, else 1."""
        ...

    def backing(self, fh: Fh) -> Backing | None:
        """Return the real file behind `fh`, None for a small file of a lower.

        Reading a small file once through this process, into the page cache, costs less.
        """
        ...

    def open_small(
        self, nodeid: NodeId, flags: int, wait: bool
    ) -> tuple[Fh, int, bytearray | None] | None:
        """Open an unchanged small file of a lower for reading; None for any other file.

        Returns its fh, which may stay open (see `lasting_version`), its `version` and its
        content.  That is None if the file is empty or cannot be read, and without `wait` if
        that would mean to wait for a disk, which reads then.  Raises what `open` does.
        """
        ...

    def first_content(self, fh: Fh, limit: int, wait: bool) -> bytearray | None:
        """Return the content of an unchanged lower file of at most `limit` bytes.

        None for any other file, for an empty one, and if it cannot be read.
        Without `wait` it raises `BlockingIOError` if it would wait for a disk, as `readinto`.
        """
        ...

    def is_as_found(self, fh: Fh) -> bool:
        """Tell whether the file behind `fh` is a lower file that was never changed."""
        ...

    def lasting_version(self, fh: Fh) -> int | None:
        """Return `version` if `fh` may stay open, for later readers of its file to share it.

        It may if it is open for reading on a lower file, and layers are immutable.
        """
        ...

    def version(self, fh: Fh) -> int:
        """Return how many copy_ups the file behind `fh` had when it was opened."""
        ...

    def is_current(self, fh: Fh, nodeid: NodeId, version: int) -> bool:
        """Tell whether `nodeid` is still the inode of `fh` and was copied up `version` times."""
        ...

    def is_of(self, fh: Fh, nodeid: NodeId) -> bool:
        """Tell whether `nodeid` is still the inode behind `fh`."""
        ...

    def will_stay(self, nodeid: NodeId, version: int) -> bool:
        """Tell whether a change of data leaves the file `nodeid` its real file.

        That is the file after `version` copy_ups.  False if it was or will be copied up.
        """
        ...

    def renew(self, nodeid: NodeId) -> Renewed | None:
        """Make the names of the file `nodeid` lead to a new nodeid from now on.

        Open handles keep the old one.  This is for a file that is copied up while
        the kernel reads its lower by passthrough, since the kernel allows an inode one
        real file at a time.  The kernel may still use the old nodeid for names other than
        the one that it looks up next.  Returns None for a file that has no name.
        """
        ...


class DirectFilesystem(ExtendedFilesystem, Passthrough, Protocol):
    """A filesystem for a transport that speaks the kernel's protocol itself."""

    def count_also(self, others: Callable[[], dict[str, int]]) -> None:
        """Include the counts that `others` returns, such as requests by opcode, in `counters`."""
        ...
