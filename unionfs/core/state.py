"""The state of one union: its layers, its inodes, its settings, its locks."""

from __future__ import annotations

import errno
import threading
from collections import Counter
from collections.abc import Callable

from unionfs.core.ahead import ReadAhead
from unionfs.core.config import Atime, UnionConfig, WhiteoutForm
from unionfs.core.inode import File
from unionfs.core.inode_table import InodeTable
from unionfs.core.layer import OUT_OF_FDS, FdCache, Layer, RealDir
from unionfs.core.link_index import LinkIndex
from unionfs.core.lost_link_counts import LostLinks
from unionfs.core.owners import Owners
from unionfs.core.private_mounts import LayerMounts
from unionfs.core.whiteout import Marks
from unionfs.core.workdir import WorkDir
from unionfs.errors import fs_error
from unionfs.gate import Gate
from unionfs.light_typing import TYPE_CHECKING, TypeVar
from unionfs.types import NodeId, StIno

T = TypeVar("T")

if TYPE_CHECKING:
    from unionfs.core.files_ahead import FilesAhead
    from unionfs.core.stage_ahead import StageAhead

# A disk counts as slow until it was seen to be quick.
_UNKNOWN_NS = 1_000_000


# The lock of a file, and in a list how many threads have it or wait for it.
_Held = dict[NodeId, tuple[threading.Lock, list[int]]]


class CopyLocks:
    """One lock for each copy_up in progress, found by nodeid.

    A lock in every inode would take memory for all those that are never written.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: _Held = {}

    def holding(self, nodeid: NodeId) -> _Holding:
        """Return a context that holds the lock of `nodeid`."""
        return _Holding(self._lock, self._held, nodeid)


class _Holding:
    """See `CopyLocks.holding`.  A class, since a generator takes three times as long."""

    __slots__ = ("_held", "_lock", "_nodeid")

    def __init__(self, lock: threading.Lock, held: _Held, nodeid: NodeId) -> None:
        self._lock = lock
        self._held = held
        self._nodeid = nodeid

    def __enter__(self) -> None:
        with self._lock:
            lock, users = self._held.setdefault(self._nodeid, (threading.Lock(), [0]))
            users[0] += 1
        lock.acquire()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            lock, users = self._held[self._nodeid]
            users[0] -= 1
            if not users[0]:
                del self._held[self._nodeid]
        lock.release()


class Writable:
    """The part of the state that only a writable union has.

    `index` is None if copy_up does not keep hard links together.  If the filesystem cannot
    exchange two names, not `exchanges`, whiteouts have the AUFS form.
    `unnamed_place` is the place of upper files without a name.  `sheltered` are those
    that have a name in the staging directory, their `shelter`, instead of an fd.
    """

    def __init__(
        self,
        *,
        upper: Layer,
        work: WorkDir,
        index: LinkIndex | None,
        whiteout_form: WhiteoutForm,
        exchanges: bool = True,
    ) -> None:
        self.upper = upper
        self.work = work
        self.index = index
        self.whiteout_form = whiteout_form
        self.exchanges = exchanges
        self.copy_locks = CopyLocks()
        self.ahead: StageAhead | None = None
        self.sheltered: dict[File, bytes] = {}
        self.shelter = RealDir(self.upper, None, b"")
        self.shelter.pin(self.work.fd)
        self.unnamed_place = RealDir(self.upper, None, b"")
        self.unnamed_place.pin(self.upper.root.fd())

    def place_in_index(self, index: LinkIndex) -> RealDir:
        """Return the directory of `index` as a place for files of the upper."""
        place = RealDir(self.upper, None, b"")
        place.pin(index.fd)
        return place

    def replace_upper(self, upper: Layer) -> None:
        """Use `upper`, which a freeze has put on top of the present one, from now on."""
        self.upper = self.unnamed_place.layer = self.shelter.layer = upper
        self.unnamed_place.pin(upper.root.fd())


class State:
    """One open union.

    `lowers` has the topmost first; `writable` is None in a read-only union.
    `layers_immutable` says that only this mount changes the layers, `reads_all` that
    this process may open any file in them.  `rename_lock` is held during a rename.
    `spares_upper_atime` says that files of the upper are opened with O_NOATIME, because their
    mount has no flag for that.  `transport_counters` returns the counters of the transport.
    `is_locked` tells whether flock(2) has locked the file of a st_ino.
    `ahead` reads directories ahead, if there may be a thread for it; `files_ahead` asks the disk
    for files ahead, if no layer changes and none may hang.
    `generation` counts the freezes.  `write_back_ns` is how long the disk of the upper took
    lately to write the data of a copy_up, `read_ns` how long the disk of a layer took to read what
    was not in memory, and `reads_disk` says that the last short read came from there.
    `passes_through` says that the kernel reads and writes real files by itself, each inode one.
    """

    __slots__ = (
        "ahead",
        "config",
        "counts",
        "data",
        "fds",
        "files_ahead",
        "gate",
        "generation",
        "is_locked",
        "layers_immutable",
        "lost",
        "lowers",
        "marks",
        "mounts",
        "owners",
        "passes_through",
        "read_ns",
        "reads_all",
        "reads_disk",
        "rename_lock",
        "spares_upper_atime",
        "table",
        "transport_counters",
        "writable",
        "write_back_ns",
    )

    def __init__(
        self,
        *,
        config: UnionConfig,
        marks: Marks,
        lowers: tuple[Layer, ...],
        data: tuple[Layer, ...],
        writable: Writable | None,
        lost: LostLinks,
        owners: Owners,
        fds: FdCache,
        layers_immutable: bool,
        reads_all: bool,
        mounts: LayerMounts,
    ) -> None:
        self.config = config
        self.marks = marks
        self.lowers = lowers
        self.data = data
        self.writable = writable
        self.lost = lost
        self.owners = owners
        self.fds = fds
        self.layers_immutable = layers_immutable
        self.reads_all = reads_all
        self.mounts = mounts
        self.ahead: ReadAhead | None = None
        self.files_ahead: FilesAhead | None = None
        self.generation = 0
        self.write_back_ns = self.read_ns = _UNKNOWN_NS
        self.reads_disk = False
        self.passes_through = False
        self.gate = Gate()
        self.table = InodeTable()
        self.rename_lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.spares_upper_atime = config.atime is Atime.NOATIME and not mounts.upper_atime
        self.transport_counters: Callable[[], dict[str, int]] = dict
        self.is_locked: Callable[[StIno], bool] = _is_none_locked

    def require_upper(self) -> Writable:
        """Return the writable part of the state; EROFS in a read-only union."""
        if self.writable is None:
            raise fs_error(errno.EROFS)
        return self.writable

    def index(self) -> LinkIndex | None:
        """Return the index of hard links, None if the union has none."""
        return None if self.writable is None else self.writable.index

    def stack(self) -> tuple[Layer, ...]:
        """Return the layers without the data-only ones, topmost first."""
        return self.lowers if self.writable is None else (self.writable.upper, *self.lowers)

    def with_room(self, opener: Callable[[bytes, int], T], name: bytes, dir_fd: int) -> T:
        """Return `opener(name, dir_fd)`; on EMFILE close spare fds and try again.

        `opener` has done nothing, or can go on, where it has failed so.
        """
        while True:
            try:
                return opener(name, dir_fd)
            except OSError as error:
                if error.errno not in OUT_OF_FDS or not self.make_room():
                    raise

    def make_room(self) -> bool:
        """Close spare fds, after an EMFILE; tell whether there were any."""
        surplus = len(self.table.unopened)
        self.table.close_surplus(0)
        return self.fds.relief() or self.fds.make_room() or surplus > 0


def _is_none_locked(_st_ino: StIno) -> bool:
    """Answer for the kernel, which keeps the locks by itself, by inode and not by st_ino."""
    return False
