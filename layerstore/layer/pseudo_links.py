"""Hard links of AUFS, whose files an archive has in `.wh..wh.plnk`.

In an archive that docker made on AUFS, a file with several names is a regular
file in `.wh..wh.plnk/`, and each of its names is a hard link to that.  Such a
file is written next to the layer's tree; each link adds it to the tree.

Source: moby pkg/archive/diff.go:UnpackLayer(), `aufsHardlinks`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from layerstore.db.staging import remove_tree
from layerstore.layer.index import IndexEntry
from layerstore.layer.new_files import FileMaker
from layerstore.layer.tree import Folder
from layerstore.tar.headers import REGULAR
from layerstore.tar.reader import TarEntry

PREFIX = b".wh..wh.plnk/"
_PLACE = "plnk"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PseudoLinks:
    """The files in `.wh..wh.plnk` of one archive, kept in `staging` until `close`.

    Each counts as an entry: `count` is called with its path.
    """

    def __init__(self, staging: Path, maker: FileMaker, count: Callable[[bytes], None]) -> None:
        self._place = staging / _PLACE
        self._maker = maker
        self._count = count
        self._fd = -1
        self._files: dict[bytes, tuple[bytes, IndexEntry]] = {}
        self._linked: set[bytes] = set()
        self._written = 0

    def take(self, entry: TarEntry, raw: Callable[[bytes | memoryview], None]) -> bool:
        """Write `entry` if it is such a file; tell whether it is.

        Its content is passed to `raw` too, since the layer's tree may not have it.
        """
        name = entry.path.removeprefix(PREFIX)
        if entry.kind != REGULAR or name == entry.path or b"/" in name:
            return False
        self._count(entry.path)
        if self._fd < 0:
            self._place.mkdir(mode=0o700)
            self._fd = os.open(self._place, _OPEN)
        # The name on disk is a number, because an archive may have a path twice.
        own = b"%d" % self._written
        self._written += 1
        self._linked.discard(entry.path)
        made = self._maker.regular(entry, Folder(self._fd, b""), own, entry.path, raw=raw)
        self._files[name] = own, made
        return True

    def link(self, target: bytes, folder_fd: int, name: bytes, path: bytes) -> IndexEntry | None:
        """Make `name` in `folder_fd` a name of the file `target`; None if there is no such file."""
        found = self._files.get(target.removeprefix(PREFIX))
        if found is None or not target.startswith(PREFIX):
            return None
        own, made = found
        os.link(own, name, src_dir_fd=self._fd, dst_dir_fd=folder_fd, follow_symlinks=False)
        return made._replace(path=path)

    def first(self, target: bytes) -> bool:
        """Tell whether this is the first link to the file `target`, and note the link."""
        is_first = target not in self._linked
        self._linked.add(target)
        return is_first

    def close(self) -> None:
        """Remove the files' own names."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            remove_tree(self._place)
