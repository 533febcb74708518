"""A `Filesystem` that shows one directory, for testing a transport without the union.

Nodeids are the real inode numbers.  Names with a meaning: looking up `broken`
raises EIO, `bug` raises what is no OSError, `strange` an errno no kernel knows.
Run as a program it serves DIR on MOUNT_POINT until it is unmounted.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from unionfs.credentials import Credentials
from unionfs.gate import Gate
from unionfs.types import (
    ROOT_NODEID,
    Attr,
    Buffer,
    DirEntry,
    Fh,
    Frozen,
    NodeId,
    Restored,
    SetAttr,
    StIno,
)


class Mirror:
    """One directory, seen through the seam; `references` is what the kernel holds."""

    def __init__(self, root: str, *, slow: bool = False, cached: bool = True) -> None:
        self.gate = Gate()
        self.paths: dict[int, str] = {ROOT_NODEID: root}
        self.references: Counter[int] = Counter()
        self.calls: list[str] = []
        self.slow = slow
        self.cached = cached
        self.listings: dict[int, list[DirEntry]] = {}

    def may_hang(self) -> bool:
        return False

    def counts_reads(self) -> bool:
        return False

    def _path(self, parent: NodeId, name: bytes) -> str:
        return os.path.join(self.paths[parent], os.fsdecode(name))

    def _attr(self, nodeid: NodeId) -> Attr:
        st = os.lstat(self.paths[nodeid])
        return Attr(nodeid, StIno(st.st_ino), st.st_nlink, st.st_uid, st.st_gid, st.st_blocks, st)

    def _entry(self, parent: NodeId, name: bytes) -> Attr:
        path = self._path(parent, name)
        nodeid = NodeId(os.lstat(path).st_ino)
        self.paths[nodeid] = path
        self.references[nodeid] += 1
        return self._attr(nodeid)

    def lookup(self, parent: NodeId, name: bytes) -> Attr | None:
        if name == b"broken":
            raise OSError(errno.EIO, "inconsistent marks")
        if name == b"bug":
            raise KeyError(name)
        if name == b"strange":
            raise OSError(524, "ENOTSUPP, which the kernel keeps for itself")
        try:
            return self._entry(parent, name)
        except FileNotFoundError:
            return None

    def forget(self, nodeid: NodeId, nlookup: int) -> None:
        self.references[nodeid] -= nlookup

    def getattr(self, nodeid: NodeId, fh: int | None = None) -> Attr:
        return self._attr(nodeid)

    def setattr(
        self, nodeid: NodeId, change: SetAttr, fh: int | None, writer: Credentials | None = None
    ) -> Attr:
        self.calls.append(f"setattr {change}")
        path = self.paths[nodeid]
        if change.mode is not None:
            os.chmod(path, change.mode)
        if change.size is not None:
            os.truncate(path, change.size)
        if change.atime_ns is not None and change.mtime_ns is not None:
            os.utime(path, ns=(change.atime_ns, change.mtime_ns))
        return self._attr(nodeid)

    def slow_setattr(self, nodeid: NodeId, change: SetAttr) -> bool:
        return self.slow

    def slow_rename(self, parent: NodeId, name: bytes) -> bool:
        return self.slow

    def known(self, parent: NodeId, name: bytes) -> NodeId | None:
        path = self._path(parent, name)
        return next((NodeId(nodeid) for nodeid, at in self.paths.items() if at == path), None)

    def readlink(self, nodeid: NodeId) -> bytes:
        return os.fsencode(os.readlink(self.paths[nodeid]))

    def access(self, nodeid: NodeId, mask: int, uid: int, gid: int) -> None:
        return None

    def statfs(self) -> os.statvfs_result:
        return os.statvfs(self.paths[ROOT_NODEID])

    def mknod(
        self, parent: NodeId, name: bytes, mode: int, rdev: int, umask: int, uid: int, gid: int
    ) -> Attr:
        os.mknod(self._path(parent, name), mode & ~umask, rdev)
        return self._entry(parent, name)

    def mkdir(self, parent: NodeId, name: bytes, mode: int, umask: int, uid: int, gid: int) -> Attr:
        os.mkdir(self._path(parent, name), stat.S_IMODE(mode) & ~umask)
        return self._entry(parent, name)

    def symlink(self, parent: NodeId, name: bytes, target: bytes, uid: int, gid: int) -> Attr:
        os.symlink(target, os.fsencode(self._path(parent, name)))
        return self._entry(parent, name)

    def link(self, nodeid: NodeId, new_parent: NodeId, new_name: bytes) -> Attr:
        os.link(self.paths[nodeid], self._path(new_parent, new_name))
        return self._entry(new_parent, new_name)

    def unlink(self, parent: NodeId, name: bytes) -> None:
        os.unlink(self._path(parent, name))

    def rmdir(self, parent: NodeId, name: bytes) -> None:
        os.rmdir(self._path(parent, name))

    def rename(
        self, parent: NodeId, name: bytes, new_parent: NodeId, new_name: bytes, flags: int
    ) -> None:
        if flags:
            raise OSError(errno.EINVAL, "flags")
        os.rename(self._path(parent, name), self._path(new_parent, new_name))
        self.paths[os.lstat(self._path(new_parent, new_name)).st_ino] = self._path(
            new_parent, new_name
        )

    def open(self, nodeid: NodeId, flags: int) -> Fh:
        return Fh(os.open(self.paths[nodeid], flags & ~os.O_NOFOLLOW))

    def slow_open(self, nodeid: NodeId, flags: int) -> bool:
        return self.slow

    def create(
        self, parent: NodeId, name: bytes, mode: int, flags: int, umask: int, uid: int, gid: int
    ) -> tuple[Attr, Fh]:
        fh = os.open(self._path(parent, name), flags | os.O_CREAT, stat.S_IMODE(mode) & ~umask)
        return self._entry(parent, name), Fh(fh)

    def read(self, fh: int, offset: int, size: int) -> bytes:
        self.calls.append("read")
        return os.pread(fh, size, offset)

    def read_nowait(self, fh: int, offset: int, size: int) -> bytes | None:
        return os.pread(fh, size, offset) if self.cached else None

    def write(self, fh: int, offset: int, data: Buffer) -> int:
        return os.pwrite(fh, data, offset)

    def only_appends(self, fh: int) -> bool:
        return False

    def has_suid(self, fh: int) -> bool:
        return bool(os.fstat(fh).st_mode & (stat.S_ISUID | stat.S_ISGID))

    def drop_suid(self, fh: int, writer: Credentials) -> bool:
        self.calls.append("drop_suid")
        return False

    def flush(self, fh: int) -> None:
        raise OSError(errno.ENOSYS, "nothing to tell")

    def fsync(self, fh: int, datasync: bool) -> None:
        self.calls.append(f"fsync {datasync}")

    def release(self, fh: int) -> None:
        os.close(fh)

    def opendir(self, nodeid: NodeId) -> Fh:
        fh = os.open(self.paths[nodeid], os.O_RDONLY | os.O_DIRECTORY)
        entries = [(b".", stat.S_IFDIR), (b"..", stat.S_IFDIR)]
        with os.scandir(fh) as found:
            entries += [(os.fsencode(e.name), 0) for e in sorted(found, key=lambda e: e.name)]
        self.listings[fh] = [
            DirEntry(i + 1, name, mode >> 12, StIno(7)) for i, (name, mode) in enumerate(entries)
        ]
        return Fh(fh)

    def readdir(self, fh: int, offset: int) -> Iterator[DirEntry]:
        return iter(self.listings[fh][offset:])

    def fsyncdir(self, fh: int) -> None:
        self.calls.append("fsyncdir")

    def releasedir(self, fh: int) -> None:
        os.close(fh)

    def getxattr(self, nodeid: NodeId, name: bytes) -> bytes:
        return os.getxattr(self.paths[nodeid], name, follow_symlinks=False)

    def lacks_xattr(self, nodeid: NodeId, name: bytes) -> bool:
        return False

    def listxattr(self, nodeid: NodeId) -> list[bytes]:
        return [os.fsencode(n) for n in os.listxattr(self.paths[nodeid], follow_symlinks=False)]

    def setxattr(self, nodeid: NodeId, name: bytes, value: bytes, flags: int) -> None:
        os.setxattr(self.paths[nodeid], name, value, flags, follow_symlinks=False)

    def removexattr(self, nodeid: NodeId, name: bytes) -> None:
        os.removexattr(self.paths[nodeid], name, follow_symlinks=False)

    def reread(self, path: bytes | None) -> list[tuple[NodeId, NodeId, bytes]]:
        return []

    def writing(self) -> list[bytes]:
        return []

    def freeze(self, upper_to: bytes, *, ahead: bool = False) -> Frozen:
        raise OSError(errno.EROFS, "a mirror has no upper")

    def restore(
        self, path: bytes, *, dry_run: bool = False, along: Sequence[bytes] = ()
    ) -> Restored:
        raise OSError(errno.EROFS, "a mirror has no upper")

    def counters(self) -> dict[str, int]:
        return {"references": self.references.total()}

    def close(self) -> None:
        return None


def main() -> None:
    import trio

    from mount_tools.mount.fuse import mount_fuse
    from mount_tools.mount.options import parse_options
    from unionfs.transports.pyfuse3_ops import carry

    directory, point = sys.argv[1:]
    fs = Mirror(directory)
    mount = mount_fuse(
        point, parse_options([f"lowerdir={directory},upperdir=x,workdir=x"], privileged=True)
    )

    async def run() -> None:
        await carry(fs, mount.fd, timeout=None, acl=True, xattrs=True, on_ready=lambda _: None)

    trio.run(run)
    # The root was listed and never counted; all else the kernel has given back or holds.
    negative = {nodeid: n for nodeid, n in fs.references.items() if n < 0}
    sys.exit(f"forgotten more often than looked up: {negative}" if negative else 0)


if __name__ == "__main__":
    main()
