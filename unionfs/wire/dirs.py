"""The requests about directories: listing them, and writing them back."""

from __future__ import annotations

from unionfs.vfs import DirectFilesystem
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.encode import Encoder
from unionfs.wire.request import DEFER, Handlers, Request


class Directories:
    """READDIR, READDIRPLUS and FSYNCDIR; directories are never opened."""

    def __init__(self, fs: DirectFilesystem, encoder: Encoder) -> None:
        self._fs = fs
        self._encoder = encoder

    def handlers(self) -> Handlers:
        """Return each opcode with its handler and the size in bytes of its struct."""
        return [
            (Opcode.READDIR, self._readdir, abi.READ_IN.size),
            (Opcode.READDIRPLUS, self._readdirplus, abi.READ_IN.size),
            (Opcode.FSYNCDIR, self._fsyncdir, abi.FSYNC_IN.size),
        ]

    def _readdir(self, request: Request) -> int:
        _, offset, size, *_ = abi.READ_IN.unpack_from(request.args, request.at)
        out, begin = request.out, request.body
        at, limit = begin, begin + min(size, request.limit)
        pack, head = abi.DIRENT.pack_into, abi.DIRENT_SIZE
        for cookie, name, d_type, st_ino in self._fs.listdir(request.nodeid, offset):
            length = len(name)
            end = at + (head + length + 7 & ~7)
            if end > limit:
                break
            pack(out, at, st_ino, cookie, length, d_type)
            out[at + head : end] = name.ljust(end - at - head, b"\0")
            at = end
        return at - begin

    def _readdirplus(self, request: Request) -> int:
        _, offset, size, *_ = abi.READ_IN.unpack_from(request.args, request.at)
        out, begin, nodeid = request.out, request.body, request.nodeid
        at, limit = begin, begin + min(size, request.limit)
        pack, head, entry_size = abi.DIRENT.pack_into, abi.DIRENTPLUS_SIZE, abi.ENTRY_OUT.size
        no_entry = bytes(entry_size)
        lookup = self._fs.lookup
        for cookie, name, d_type, st_ino in self._fs.listdir(nodeid, offset):
            length = len(name)
            end = at + (head + length + 7 & ~7)
            if end > limit:
                break
            attr = None
            if name != b"." and name != b"..":
                try:
                    attr = lookup(nodeid, name)
                except OSError:
                    attr = None  # whoever looks it up hears why it cannot be had
            if attr is None:
                out[at : at + entry_size] = no_entry
            else:
                self._encoder.put_entry(attr, out, at)
                st_ino = attr.st_ino
            pack(out, at + entry_size, st_ino, cookie, length, d_type)
            out[at + head : end] = name.ljust(end - at - head, b"\0")
            at = end
        return at - begin

    def _fsyncdir(self, request: Request) -> int:
        if not request.wait:
            raise DEFER
        self._fs.syncdir(request.nodeid)
        return 0
