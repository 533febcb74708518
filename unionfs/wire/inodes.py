"""The requests about inodes: attributes, targets of symbolic links, xattrs, ioctls."""

from __future__ import annotations

import errno
import stat
from contextlib import AbstractContextManager

from unionfs.credentials import Credentials
from unionfs.errors import fs_error
from unionfs.light_typing import Protocol
from unionfs.types import NS, NodeId, SetAttr
from unionfs.vfs import TOUCH, ExtendedFilesystem
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.encode import Encoder
from unionfs.wire.late_replies import LateReplies
from unionfs.wire.modes import Cache
from unionfs.wire.request import Defer, Handlers, Request

_TRUSTED = b"trusted."
_ACCESS_ACL = b"system.posix_acl_access"

_TIMES_NOW = abi.FATTR_ATIME_NOW | abi.FATTR_MTIME_NOW
_FATTR_MODE, _FATTR_SIZE = abi.FATTR_MODE, abi.FATTR_SIZE
_FATTR_OWNERS = abi.FATTR_UID | abi.FATTR_GID
_FATTR_TIMES = abi.FATTR_ATIME | abi.FATTR_MTIME | _TIMES_NOW
_FATTR_WRITER = abi.FATTR_KILL_SUIDGID


class Changing(Protocol):
    """Holds readers of a file off while it is truncated; see `files.Files.changing`."""

    def __call__(self, nodeid: NodeId, *, wait: bool) -> AbstractContextManager[None]: ...


class Inodes:
    """GETATTR, SETATTR, STATX, READLINK, STATFS, IOCTL and the xattr requests.

    `extended` says that SETXATTR_EXT was agreed on.
    """

    def __init__(
        self,
        fs: ExtendedFilesystem,
        encoder: Encoder,
        changing: Changing,
        late: LateReplies,
        *,
        xattrs: bool,
        cache: Cache | None,
    ) -> None:
        self._fs = fs
        self._encoder = encoder
        self._changing = changing
        self._xattrs = xattrs
        self._cache = cache
        self._late = late
        self._asked = late.asked
        self.extended = True

    def handlers(self) -> Handlers:
        """Return each opcode with its handler and the size in bytes of its struct."""
        return [
            (Opcode.GETATTR, self._getattr, abi.GETATTR_IN.size),
            (Opcode.SETATTR, self._setattr, abi.SETATTR_IN.size),
            (Opcode.STATX, self._statx, abi.STATX_IN.size),
            (Opcode.READLINK, self._readlink, 0),
            (Opcode.STATFS, self._statfs, 0),
            (Opcode.SYNCFS, self._syncfs, abi.SYNCFS_IN.size),
            (Opcode.IOCTL, self._ioctl, abi.IOCTL_IN.size),
            *(self._xattr_handlers() if self._xattrs else ()),
        ]

    def _xattr_handlers(self) -> Handlers:
        setxattr_in = abi.SETXATTR_IN if self.extended else abi.SETXATTR_IN_SHORT
        return [
            (Opcode.GETXATTR, self._getxattr, abi.GETXATTR_IN.size),
            (Opcode.LISTXATTR, self._listxattr, abi.GETXATTR_IN.size),
            (Opcode.SETXATTR, self._setxattr, setxattr_in.size),
            (Opcode.REMOVEXATTR, self._removexattr, 0),
        ]

    def _getattr(self, request: Request) -> int:
        flags, _, fh = abi.GETATTR_IN.unpack_from(request.args, request.at)
        self._asked(request.nodeid, request.pid)
        attr = self._fs.getattr(request.nodeid, fh if flags & abi.GETATTR_FH else None)
        return self._encoder.attributes(attr, request)

    def _statx(self, request: Request) -> int:
        _, _, _, mask = abi.STATX_IN.unpack_from(request.args, request.at)
        self._asked(request.nodeid, request.pid)
        attr, statx = self._fs.statx(request.nodeid, mask)
        head = abi.STATX_OUT.pack(*self._encoder.validity(attr), 0)
        return request.answer(head + statx)

    def _setattr(self, request: Request) -> int:
        (valid, fh, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, uid, gid) = (
            abi.SETATTR_IN.unpack_from(request.args, request.at)
        )
        change = SetAttr()
        if valid & _FATTR_MODE:
            change.mode = stat.S_IMODE(mode)
        if valid & _FATTR_OWNERS:
            if valid & abi.FATTR_UID:
                change.uid = uid
            if valid & abi.FATTR_GID:
                change.gid = gid
        if valid & _FATTR_SIZE:
            change.size = size
        if valid & _FATTR_TIMES:
            # For the _NOW forms the kernel sets the time too.
            if valid & abi.FATTR_ATIME:
                change.atime_ns = atime * NS + atime_ns
            if valid & abi.FATTR_MTIME:
                change.mtime_ns = mtime * NS + mtime_ns
            change.times_now = valid & _TIMES_NOW == _TIMES_NOW
        if not request.wait and self._fs.slow_setattr(request.nodeid, change):
            raise Defer
        writer = None
        if (
            valid & _FATTR_WRITER
            or not valid
            # A chown of root, who keeps what others may lose, is the usual one.
            or (valid & _FATTR_OWNERS and request.uid and not valid & _FATTR_SIZE)
        ):
            writer = Credentials(request.pid, request.gid, request.uid)
        through = fh if valid & abi.FATTR_FH else None
        if change.size is None:
            attr = self._fs.setattr(request.nodeid, change, through, writer)
        else:
            with self._changing(request.nodeid, wait=request.wait):
                attr = self._fs.setattr(request.nodeid, change, through, writer)
        return self._encoder.attributes(attr, request)

    def _readlink(self, request: Request) -> int:
        return request.answer(self._fs.readlink(request.nodeid))

    def _statfs(self, request: Request) -> int:
        st = self._fs.statfs()
        abi.STATFS_OUT.pack_into(
            request.out,
            request.body,
            st.f_blocks,
            st.f_bfree,
            st.f_bavail,
            st.f_files,
            st.f_ffree,
            st.f_bsize,
            st.f_namemax,
            st.f_frsize,
        )
        return abi.STATFS_OUT.size

    def _syncfs(self, request: Request) -> int:
        # Linux up to 6.18 sends it to virtiofs and fuseblk only.
        if not request.wait:
            raise Defer
        self._fs.syncfs()
        return 0

    def _ioctl(self, request: Request) -> int:
        _, _, command, _, in_size, _ = abi.IOCTL_IN.unpack_from(request.args, request.at)
        data = bytes(request.data[request.start : request.start + in_size])
        if not request.wait and data and self._fs.slow_setattr(request.nodeid, TOUCH):
            raise Defer
        reply = self._fs.fileattr(request.nodeid, command, data)
        if data and self._cache is not None:
            self._cache.forget_attributes(request.nodeid)  # its ctime changed
        return request.answer(abi.IOCTL_OUT.pack(0, 0, 0, 0) + reply)

    def _getxattr(self, request: Request) -> int:
        nodeid, name = request.nodeid, request.name()
        if self._fs.lacks_xattr(nodeid, name):
            return -errno.ENODATA
        size, _ = abi.GETXATTR_IN.unpack_from(request.args, request.at)
        return self._sized(self._fs.getxattr(nodeid, name), size, request)

    def _listxattr(self, request: Request) -> int:
        size, _ = abi.GETXATTR_IN.unpack_from(request.args, request.at)
        names = self._fs.listxattr(request.nodeid)
        if not names:
            return self._sized(b"", size, request)
        # For FUSE the kernel leaves it to the filesystem to hide these.
        hides = any(name.startswith(_TRUSTED) for name in names)
        if hides and not Credentials(request.pid, request.gid).sees_trusted():
            names = [name for name in names if not name.startswith(_TRUSTED)]
        return self._sized(b"".join(name + b"\0" for name in names), size, request)

    def _sized(self, value: bytes, size: int, request: Request) -> int:
        """Answer `value`, or its length if `size` is 0; ERANGE if `size` is too small."""
        if size == 0:
            return request.answer(abi.GETXATTR_OUT.pack(len(value), 0))
        if len(value) > size:
            raise fs_error(errno.ERANGE)
        return request.answer(value)

    def _setxattr(self, request: Request) -> int:
        kill_sgid = 0
        if self.extended:
            size, flags, kill_sgid, _ = abi.SETXATTR_IN.unpack_from(request.args, request.at)
        else:
            size, flags = abi.SETXATTR_IN_SHORT.unpack_from(request.args, request.at)
        fs = self._fs
        if not request.wait and fs.slow_setattr(request.nodeid, TOUCH):
            raise Defer
        name, _, _ = bytes(request.data[request.start : request.end]).partition(b"\0")
        begin = request.start + len(name) + 1
        value = bytes(request.data[begin : begin + size])
        fs.setxattr(request.nodeid, name, value, flags)
        # The kernel says it of default ACLs too, which do not change the mode.
        if kill_sgid & abi.SETXATTR_ACL_KILL_SGID and name == _ACCESS_ACL:
            mode = stat.S_IMODE(fs.getattr(request.nodeid).st.st_mode)
            fs.setattr(request.nodeid, SetAttr(mode=mode & ~stat.S_ISGID), None)
        self._late.changed(request.nodeid, request.pid)
        return 0

    def _removexattr(self, request: Request) -> int:
        if not request.wait and self._fs.slow_setattr(request.nodeid, TOUCH):
            raise Defer
        self._fs.removexattr(request.nodeid, request.name())
        self._late.changed(request.nodeid, request.pid)
        return 0
