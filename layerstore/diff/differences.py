"""The differences of two stacks of layers, in the letters of `layerstore.diff.changes`.

Decided here and only here: when two files of different stacks count as the same.  They do
if both stacks show the same file of the same layer.  Otherwise `content` mode compares
everything that an archive would have of them; without it another file is a change,
even with the same content, as in docker's `diff` of a container.

A directory is C if its own attributes differ, or if something beneath it does.
If both stacks show the same directory of the same layer, everything beneath that layer is
the same too, since a layer is in one chain only.  So layers that two images share are not
read.

Threading: one thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from layerstore.db.beside import temporary_directory
from layerstore.diff.changes import Change, has_vanished
from layerstore.diff.union import UnionFiles, open_node
from unionfs.light_typing import NamedTuple, TypeVar
from unionfs.types import ROOT_NODEID, Attr, NodeId

T = TypeVar("T")

_BLOCK = 1 << 20


class _Pair(NamedTuple):
    """A directory of both stacks, and the change to report if one is found beneath it."""

    path: bytes
    old: NodeId
    new: NodeId
    own: Change | None


def differences(
    before: Sequence[Path], after: Sequence[Path], *, content: bool, live: bool = False
) -> Iterator[Change]:
    """Yield the differences of two stacks, each topmost first, in the order of a sorted walk.

    `live` says that mounts may be changing the topmost layers meanwhile; a name that vanishes
    is left out, and so is what lies beneath it.  Raises StoreError if a layer cannot be opened,
    OSError if one cannot be read.
    """
    with temporary_directory() as empty:
        # An image may have no layers; a union has one at least.
        nothing = [empty]
        with (
            UnionFiles(before or nothing, live=live) as old,
            UnionFiles(after or nothing, live=live) as new,
        ):
            yield from _Differences(old, new, content, live).walk()


class _Differences:
    def __init__(self, before: UnionFiles, after: UnionFiles, content: bool, live: bool) -> None:
        self._before = before
        self._after = after
        self._content = content
        self._live = live

    def walk(self) -> Iterator[Change]:
        # Not recursive: an image may be nested deeper than Python allows calls.
        root = _Pair(b"", ROOT_NODEID, ROOT_NODEID, None)
        stack = [(root, self._directory(root))]
        unsaid: list[Change] = []  # directories that are C only if something beneath is anything
        while stack:
            found = next(stack[-1][1], None)
            if isinstance(found, Change):
                yield from unsaid
                unsaid.clear()
                yield found
            elif found is not None:
                if found.own is not None:
                    unsaid.append(found.own)
                stack.append((found, self._directory(found)))
            else:
                pair, _ = stack.pop()
                if unsaid and unsaid[-1] is pair.own:
                    unsaid.pop()

    def _directory(self, pair: _Pair) -> Iterator[Change | _Pair]:
        old_names = frozenset(self._names(self._before, pair.old))
        new_names = frozenset(self._names(self._after, pair.new))
        for name in sorted(old_names | new_names):
            path = pair.path + b"/" + name
            if name not in new_names:
                yield Change("D", path)
                continue
            new = self._lookup(self._after, pair.new, name)
            if new is None:
                continue
            if name not in old_names:
                yield from self._added(path, new)
            else:
                old = self._lookup(self._before, pair.old, name)
                if old is not None:
                    yield from self._both(path, old, new)
                    self._before.release(old)
            self._after.release(new)

    def _both(self, path: bytes, old: Attr, new: Attr) -> Iterator[Change | _Pair]:
        if (old.st.st_dev, old.st.st_ino) == (new.st.st_dev, new.st.st_ino):
            return
        changed = Change("C", path)
        folders = stat.S_ISDIR(old.st.st_mode), stat.S_ISDIR(new.st.st_mode)
        if all(folders):
            is_other = not self._content or not self._same(old, new)
            if is_other:
                yield changed
            yield _Pair(path, old.nodeid, new.nodeid, None if is_other else changed)
        elif not self._content or any(folders) or not self._same(old, new):
            yield changed
            if folders[1]:
                yield from self._beneath(path, new)

    def _added(self, path: bytes, new: Attr) -> Iterator[Change]:
        yield Change("A", path)
        if stat.S_ISDIR(new.st.st_mode):
            yield from self._beneath(path, new)

    def _beneath(self, path: bytes, folder: Attr) -> Iterator[Change]:
        """Yield everything beneath a directory that is new."""
        held: list[Attr] = []
        stack = [(path, folder.nodeid, iter(self._names(self._after, folder.nodeid)))]
        while stack:
            here, nodeid, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                if held:
                    self._after.release(held.pop())
                continue
            found = self._lookup(self._after, nodeid, name)
            if found is None:
                continue
            yield Change("A", here + b"/" + name)
            if stat.S_ISDIR(found.st.st_mode):
                held.append(found)
                below = iter(self._names(self._after, found.nodeid))
                stack.append((here + b"/" + name, found.nodeid, below))
            else:
                self._after.release(found)

    def _names(self, union: UnionFiles, folder: NodeId) -> list[bytes]:
        return self._unless_vanished(lambda: union.names(folder)) or []

    def _lookup(self, union: UnionFiles, folder: NodeId, name: bytes) -> Attr | None:
        return self._unless_vanished(lambda: union.fs.lookup(folder, name))

    def _unless_vanished(self, read: Callable[[], T | None]) -> T | None:
        """Return what `read` returns, None if another process removes that meanwhile."""
        try:
            return read()
        except OSError as error:
            if self._live and has_vanished(error):
                return None
            raise

    def _same(self, old: Attr, new: Attr) -> bool:
        """Tell whether two files are the same, except for the time of a directory."""
        return self._unless_vanished(lambda: self._compared(old, new)) or False

    def _compared(self, old: Attr, new: Attr) -> bool:
        if _kept(old.st) != _kept(new.st):
            return False
        if self._before.xattrs(old.nodeid) != self._after.xattrs(new.nodeid):
            return False
        if stat.S_ISLNK(new.st.st_mode):
            return self._before.fs.readlink(old.nodeid) == self._after.fs.readlink(new.nodeid)
        return not stat.S_ISREG(new.st.st_mode) or self._same_bytes(old.nodeid, new.nodeid)

    def _same_bytes(self, old: NodeId, new: NodeId) -> bool:
        with (
            open(open_node(self._before.fs, old), "rb", buffering=0) as one,
            open(open_node(self._after.fs, new), "rb", buffering=0) as other,
        ):
            while True:
                block = one.read(_BLOCK)
                if block != other.read(_BLOCK):
                    return False
                if not block:
                    return True


def _kept(st: os.stat_result) -> tuple[int, ...]:
    """Return the attributes to compare, without a directory's time, which its names change."""
    kept = (st.st_mode, st.st_uid, st.st_gid)
    if stat.S_ISDIR(st.st_mode):
        return kept
    return (*kept, st.st_size, st.st_mtime_ns, st.st_rdev)
