"""The requests about names: look up, make, link, rename, remove."""

from __future__ import annotations

import errno
import stat

from unionfs.errors import fs_error
from unionfs.types import NodeId
from unionfs.vfs import TOUCH, Filesystem
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.dirs import Demand
from unionfs.wire.encode import Encoder
from unionfs.wire.late_replies import LateReplies
from unionfs.wire.request import Defer, Handlers, Request

_RENAME_EXCHANGE = 2


class Names:
    """LOOKUP and every change of a directory."""

    def __init__(self, fs: Filesystem, encoder: Encoder, demand: Demand, late: LateReplies) -> None:
        self._fs = fs
        self._encoder = encoder
        self._demand = demand
        self._late = late

    def handlers(self) -> Handlers:
        """Return each opcode with its handler and the size in bytes of its struct."""
        return [
            (Opcode.LOOKUP, self._lookup, 0),
            (Opcode.SYMLINK, self._symlink, 0),
            (Opcode.MKNOD, self._mknod, abi.MKNOD_IN.size),
            (Opcode.MKDIR, self._mkdir, abi.MKDIR_IN.size),
            (Opcode.UNLINK, self._unlink, 0),
            (Opcode.RMDIR, self._rmdir, 0),
            (Opcode.RENAME, self._rename, abi.RENAME_IN.size),
            (Opcode.RENAME2, self._rename2, abi.RENAME2_IN.size),
            (Opcode.LINK, self._link, abi.LINK_IN.size),
        ]

    def _lookup(self, request: Request) -> int:
        attr = self._fs.lookup(request.nodeid, request.name())
        if attr is not None:
            if attr.st_nlink > 1 and not stat.S_ISDIR(attr.st.st_mode):
                attr = self._late.asked_by_link(self._fs, attr, request.pid)
            self._encoder.put_entry(attr, request.out, request.body)
            if request.nodeid in self._demand.bare and not stat.S_ISDIR(attr.st.st_mode):
                self._demand.looked_up(request.nodeid)
            return abi.ENTRY_SIZE
        if not self._encoder.valid and not self._encoder.valid_ns:
            raise fs_error(errno.ENOENT)
        return self._encoder.absent(request)

    def _symlink(self, request: Request) -> int:
        name, target = request.names()[:2]
        attr = self._fs.symlink(request.nodeid, name, target, request.uid, request.gid)
        return self._encoder.entry(attr, request)

    def _mknod(self, request: Request) -> int:
        mode, rdev, umask, _ = abi.MKNOD_IN.unpack_from(request.args, request.at)
        name = request.name()
        attr = self._fs.mknod(request.nodeid, name, mode, rdev, umask, request.uid, request.gid)
        return self._encoder.entry(attr, request)

    def _mkdir(self, request: Request) -> int:
        mode, umask = abi.MKDIR_IN.unpack_from(request.args, request.at)
        attr = self._fs.mkdir(request.nodeid, request.name(), mode, umask, request.uid, request.gid)
        return self._encoder.entry(attr, request)

    def _unlink(self, request: Request) -> int:
        self._fs.unlink(request.nodeid, request.name())
        return 0

    def _rmdir(self, request: Request) -> int:
        self._fs.rmdir(request.nodeid, request.name())
        return 0

    def _rename(self, request: Request) -> int:
        (new_parent,) = abi.RENAME_IN.unpack_from(request.args, request.at)
        return self._move(request, new_parent, 0)

    def _rename2(self, request: Request) -> int:
        new_parent, flags, _ = abi.RENAME2_IN.unpack_from(request.args, request.at)
        return self._move(request, new_parent, flags)

    def _move(self, request: Request, new_parent: NodeId, flags: int) -> int:
        fs = self._fs
        name, new_name = request.names()[:2]
        if not request.wait and (
            fs.slow_rename(request.nodeid, name)
            or (flags & _RENAME_EXCHANGE and fs.slow_rename(new_parent, new_name))
        ):
            raise Defer
        fs.rename(request.nodeid, name, new_parent, new_name, flags)
        if self._late.programs:
            self._moved(request, new_parent, new_name)
            if flags & _RENAME_EXCHANGE:
                self._moved(request, request.nodeid, name)
        return 0

    def _moved(self, request: Request, parent: NodeId, name: bytes) -> None:
        """Note that what now is `name` in directory `parent` has another ctime."""
        nodeid = self._fs.known(parent, name)
        if nodeid is not None:
            self._late.changed(nodeid, request.pid)

    def _link(self, request: Request) -> int:
        (nodeid,) = abi.LINK_IN.unpack_from(request.args, request.at)
        if not request.wait and self._fs.slow_setattr(nodeid, TOUCH):
            raise Defer
        return self._encoder.entry(self._fs.link(nodeid, request.nodeid, request.name()), request)
