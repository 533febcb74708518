"""What the parts of one union share: its layers, its inodes, its settings, its locks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from unionfs.core.config import UnionConfig, WhiteoutForm
from unionfs.core.inode import InodeTable
from unionfs.core.layer import FdCache, Layer, RealDir
from unionfs.core.link_index import LinkIndex
from unionfs.core.lost_link_counts import LostLinks
from unionfs.core.owners import Owners
from unionfs.core.whiteout import Marks
from unionfs.core.workdir import WorkDir
from unionfs.gate import Gate


@dataclass(slots=True, kw_only=True)
class State:
    """One open union.

    `lowers` has the topmost first; `upper`, `work` and `index` are None in a
    read-only union, `index` also where hard links are not kept together.
    `static` says that nobody but us changes the layers, `reads_all` that we may
    open any file in them.  `tree` is held by whatever moves a directory.  `others`
    counts what the transport does.  `generation` counts the freezes.  `nowhere`
    is the place of upper files without a name.
    """

    config: UnionConfig
    marks: Marks
    lowers: tuple[Layer, ...]
    data: tuple[Layer, ...]
    upper: Layer | None
    work: WorkDir | None
    index: LinkIndex | None
    lost: LostLinks
    whiteout_form: WhiteoutForm
    owners: Owners
    fds: FdCache
    static: bool
    reads_all: bool
    generation: int = 0
    gate: Gate = field(default_factory=Gate)
    nowhere: RealDir = field(init=False)
    table: InodeTable = field(default_factory=InodeTable)
    tree: threading.Lock = field(default_factory=threading.Lock)
    counts: Counter[str] = field(default_factory=Counter)
    others: Callable[[], dict[str, int]] = dict

    def __post_init__(self) -> None:
        layer = self.upper or self.lowers[0]
        self.nowhere = RealDir(layer, None, b"")
        self.nowhere.pin(layer.root.fd())

    def index_dir(self) -> RealDir:
        """Return the index directory as a place for files of the upper."""
        assert self.index is not None and self.upper is not None
        place = RealDir(self.upper, None, b"")
        place.pin(self.index.fd)
        return place
