"""The whiteouts of an archive, collected while it is read.

Decided here and only here: which names in an archive are whiteouts or AUFS's own
files, and which whiteouts have an effect.  A whiteout has none in an opaque directory, or
beneath a path at which this layer has something other than a directory.

Source: image-spec layer.md "Whiteouts"; moby pkg/archive/diff.go.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping

from layerstore.errors import InvalidImage, UnsafePath
from layerstore.layer.index import IndexEntry
from layerstore.tar.reader import show
from unionfs import AUFS_META, AUFS_OPAQUE, AUFS_PREFIX
from unionfs.light_typing import NamedTuple


class Whiteout(NamedTuple):
    """The path to delete: `name` in the directory `folder`."""

    path: bytes
    folder: bytes
    name: bytes


class Deletions:
    """The whiteouts and opaque directories of one archive.

    `entries` has every path that the archive has made so far.  `count` is
    called with each path that is noted; it raises if there are too many.
    """

    def __init__(self, entries: Mapping[bytes, IndexEntry], count: Callable[[bytes], None]) -> None:
        self._entries = entries
        self._count = count
        self.pending = 0  # noted, and not yet yielded
        self._gone: set[bytes] = set()
        self._opaque: set[bytes] = set()
        self._hidden: dict[bytes, bool] = {}

    def note(self, path: bytes) -> bool:
        """Tell whether `path` is a whiteout or a file of AUFS's own; note what it deletes.

        Raises InvalidImage for a path beneath a whiteout, UnsafePath for a
        whiteout of a name that no file can have.
        """
        *folders, name = path.split(b"/")
        for part in folders:
            if part.startswith(AUFS_META):
                return True
            if part.startswith(AUFS_PREFIX):
                raise InvalidImage(f"the archive has {show(path)}, something beneath a whiteout")
        if not name.startswith(AUFS_PREFIX):
            return False
        folder = b"/".join(folders)
        if name == AUFS_OPAQUE:
            self._add(self._opaque, folder)
        elif not name.startswith(AUFS_META):
            gone = name[len(AUFS_PREFIX) :]
            if gone in (b"", b".", b".."):
                raise UnsafePath(f"the archive has {show(path)}, a whiteout of no possible name")
            self.add(folder + b"/" + gone if folder else gone)
        return True

    def add(self, path: bytes) -> None:
        """Note that `path` is deleted."""
        self._add(self._gone, path)

    def _add(self, noted: set[bytes], path: bytes) -> None:
        if path not in noted:
            self._count(path)
            noted.add(path)
            self.pending += 1

    # -- at the end of the archive --

    def opaque(self) -> list[bytes]:
        """Return the directories that hide everything beneath them in lower layers."""
        self.pending -= len(self._opaque)
        return [path for path in sorted(self._opaque) if not self._ends(path)]

    def whiteouts(self, opaque: set[bytes]) -> Iterator[Whiteout]:
        """Yield the whiteouts that have an effect, parents first.

        `opaque` are the opaque directories; the caller adds to it while it iterates.
        """
        for path in sorted(self._gone):
            self.pending -= 1
            folder, _, name = path.rpartition(b"/")
            there = self._deepest(folder)
            if not self._is_file(there) and not self._is_hidden(there, opaque):
                yield Whiteout(path, folder, name)

    def _ends(self, path: bytes) -> bool:
        """Tell whether the layer has something other than a directory at `path` or above it.

        That hides everything beneath it in lower layers, so a whiteout there has no
        effect.  If it is a symbolic link, the whiteout must not follow it.
        """
        return self._is_file(self._deepest(path))

    def _is_file(self, path: bytes) -> bool:
        return bool(path) and not stat.S_ISDIR(self._entries[path].mode)

    def _deepest(self, path: bytes) -> bytes:
        """Return the longest prefix of `path` that this layer has, b"" for its root.

        All directories above a path that exists also exist, so a binary search finds it.
        A walk would read a path of 2,000 directories 2,000 times.
        """
        cuts = [0, *(at for at, byte in enumerate(path) if byte == ord("/")), len(path)]
        low, high = 0, len(cuts) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if path[: cuts[middle]] in self._entries:
                low = middle
            else:
                high = middle - 1
        return path[: cuts[low]]

    def _is_hidden(self, folder: bytes, opaque: set[bytes]) -> bool:
        """Tell whether `folder`, which exists, or a directory above it is opaque.

        Parents come first, so an answer that was found earlier is still valid.
        """
        steps = []
        while (found := self._hidden.get(folder)) is None:
            steps.append(folder)
            if folder in opaque or not folder:
                found = folder in opaque
                break
            folder = folder.rpartition(b"/")[0]
        self._hidden.update(dict.fromkeys(steps, found))
        return found
