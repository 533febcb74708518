"""The requests about directories: listing them, and writing them back.

Decided here and only here: for which names a listing includes the attributes.  It
always includes those of directories, since a program that walks a tree asks for them
next.  Those of files cost several times as much as the rest of the listing, and save
one request for each file if a program wants them, so `Demand` watches whether it does.
"""

from __future__ import annotations

from unionfs.types import LookedUp, NodeId
from unionfs.vfs import ExtendedFilesystem
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.encode import Encoder
from unionfs.wire.late_replies import LateReplies
from unionfs.wire.listings import Listings
from unionfs.wire.modes import Cache
from unionfs.wire.request import Defer, Handlers, Request

TRIAL = 32  # directories
PATIENCE = 4 << 20  # bytes of listings, for each name about 170
AT_FIRST = 8 << 10  # the same, before any file was looked up
WATCHED = 1024  # directories


class Demand:
    """Whether programs that list directories want the attributes of the files in them.

    The kernel does not say when it uses them.  So one file of a directory is listed without, of
    each directory at first and later of one in `TRIAL`: a lookup of that file shows that they are
    wanted.  They are not when so much as `PATIENCE` was listed without such a lookup.  It may come
    that late: `find -exec md5sum {} +` lists hundreds of directories, then looks at all their
    files.  Then no file is listed with its attributes until one is looked up in a directory that
    was listed without.

    `bare` are the directories that have files listed without attributes, the latest last.  `left`
    are the bytes that may be listed with attributes before the next such lookup.
    """

    __slots__ = ("_directories", "_seen", "_wanted", "bare", "left")

    def __init__(self) -> None:
        self._wanted, self._seen = True, False  # by a lookup
        self.left = AT_FIRST
        self._directories = 0  # listed since the latest lookup
        self.bare: dict[NodeId, None] = {}

    def begin(self, nodeid: NodeId) -> LookedUp:
        """Return what to list with attributes in directory `nodeid`."""
        what = LookedUp.DIRECTORIES
        if self._wanted:
            self._directories += 1
            if self._seen and self._directories % TRIAL:
                self.bare.pop(nodeid, None)
                return LookedUp.EVERYTHING
            what = LookedUp.ALL_BUT_A_FILE
        self._watch(nodeid)
        return what

    def rest(self) -> LookedUp:
        """Return what to list with attributes in the rest of a directory."""
        return LookedUp.EVERYTHING if self._wanted else LookedUp.DIRECTORIES

    def listed(self, nodeid: NodeId, size: int) -> None:
        """Note that `size` bytes of a listing of directory `nodeid` have attributes."""
        self.left -= size
        if self.left < 0:
            self._wanted = False
            self._watch(nodeid)  # the rest of it has none

    def looked_up(self, parent: NodeId) -> None:
        """Note that a file of directory `parent`, one of the `bare`, was looked up by its name."""
        self.bare.pop(parent, None)
        self._directories, self.left = 0, PATIENCE
        self._wanted = self._seen = True

    def _watch(self, nodeid: NodeId) -> None:
        bare = self.bare
        bare[nodeid] = None
        if len(bare) > WATCHED:
            # Another thread may be doing the same.
            bare.pop(next(iter(bare), nodeid), None)


class Directories:
    """READDIR, READDIRPLUS and FSYNCDIR.

    Directories are not opened, and the kernel keeps their listings.  With `opens` it
    opens them, and asks for every listing.
    """

    def __init__(
        self,
        fs: ExtendedFilesystem,
        encoder: Encoder,
        demand: Demand,
        listings: Listings,
        late: LateReplies,
        cache: Cache | None,
        *,
        opens: bool,
    ) -> None:
        self._fs = fs
        self._encoder = encoder
        self._demand = demand
        self._listings = listings
        self._late = late
        self._cache = cache
        self._opens = opens

    def handlers(self) -> Handlers:
        """Return each opcode with its handler and the size in bytes of its struct."""
        opens: Handlers = []
        if self._opens:
            opens = [
                (Opcode.OPENDIR, self._opendir, abi.OPEN_IN.size),
                (Opcode.RELEASEDIR, self._releasedir, abi.RELEASE_IN.size),
            ]
        return [
            *opens,
            (Opcode.READDIR, self._readdir, abi.READ_IN.size),
            (Opcode.READDIRPLUS, self._readdirplus, abi.READ_IN.size),
            (Opcode.FSYNCDIR, self._fsyncdir, abi.FSYNC_IN.size),
        ]

    def _opendir(self, request: Request) -> int:
        # Without FOPEN_CACHE_DIR.
        abi.OPEN_OUT.pack_into(request.out, request.body, 0, 0, 0)
        return abi.OPEN_OUT.size

    def _releasedir(self, request: Request) -> int:
        return 0

    def _readdir(self, request: Request) -> int:
        _, offset, size, *_ = abi.READ_IN.unpack_from(request.args, request.at)
        if offset == 0:
            self._listings.begin(request.nodeid, request.pid)
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
        if at == begin:
            self._end(request)
        return at - begin

    def _readdirplus(self, request: Request) -> int:
        _, offset, size, *_ = abi.READ_IN.unpack_from(request.args, request.at)
        out, begin, nodeid = request.out, request.body, request.nodeid
        if offset == 0:
            self._listings.begin(nodeid, request.pid)
        at, limit = begin, begin + min(size, request.limit)
        demand, fs, put, pid = self._demand, self._fs, self._encoder.put_listed, request.pid
        what = demand.begin(nodeid) if offset == 0 else demand.rest()
        late = self._late
        if what is not LookedUp.DIRECTORIES:
            late.asked_many(pid)

        def tell(directory: NodeId) -> None:
            late.asked(directory, pid)

        # What comes after so many bytes is asked for again, and then has no attributes.
        enough = begin + demand.left if what is not LookedUp.DIRECTORIES else limit
        for listed in fs.list_looked_up(nodeid, offset, what, tell):
            end = put(listed, out, at, limit)
            if not end:
                attr = listed[4]
                if attr is not None:
                    fs.forget(attr.nodeid, 1)
                break
            at = end
            if at > enough:
                break
        if at == begin:
            self._end(request)
        elif what is not LookedUp.DIRECTORIES:
            demand.listed(nodeid, at - begin)
        return at - begin

    def _end(self, request: Request) -> None:
        """Let the kernel drop the listing it has kept, if that is out of date already."""
        stale = self._listings.end(request.nodeid, request.pid)
        if stale and self._cache is not None and not self._opens:
            self._cache.forget_inode(request.nodeid)

    def _fsyncdir(self, request: Request) -> int:
        if not request.wait:
            raise Defer
        self._fs.syncdir(request.nodeid)
        return 0
