"""The changes in a layer: one letter and one path for each name it adds, changes or deletes.

Decided here and only here: what counts as a change.  Only the core knows the forms of
whiteouts, opaque marks and redirects.  Here two read-only unions are
compared, the lowers alone and the lowers with the layer on top, so every form
that the core reads is understood, and no link leads out of the layers.

The letters are those of `docker diff`:

- A: the path is new.  So is every path beneath a directory that is new or was
  renamed to there.
- C: the path existed and the layer has it too, even if nothing in it differs; so a
  directory is C if something beneath it is A, C or D.
- D: the path was deleted, by a whiteout or beneath an opaque directory.  A
  deleted directory is one D, without its content.

Only directories that the layer has are read, and only names that it has are looked up.
So the cost depends on the size of the change, not on that of the layers beneath.  If the
layer renamed a directory, everything in it is compared.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from layerstore.diff.union import UnionFiles
from unionfs import Marks
from unionfs.errors import fs_error
from unionfs.light_typing import Literal, NamedTuple
from unionfs.types import ROOT_NODEID, Attr, NodeId

_MOST_OPEN = 64  # directories of the layer; those further up are opened again
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Change(NamedTuple):
    """One changed path, absolute in the union."""

    kind: Literal["A", "C", "D"]
    path: bytes


class Changed(NamedTuple):
    """One changed path, relative to the root, with its present attributes.

    If the layer has the name itself, `own` is the fd of the layer's directory, open
    until the next step of the walk.  `attr` is None for a deleted path.
    """

    kind: Literal["A", "C", "D"]
    path: bytes
    name: bytes = b""
    attr: Attr | None = None
    own: int | None = None


def changes(upper: bytes, lowers: Sequence[bytes]) -> list[Change]:
    """Return the changes of `upper` to `lowers`, topmost first, in the order of a sorted walk.

    Raises StoreError if a layer cannot be opened, OSError if one cannot be read.
    """
    below = [Path(os.fsdecode(lower)) for lower in lowers]
    with ChangeWalk(Path(os.fsdecode(upper)), below) as walk:
        return [Change(found.kind, b"/" + found.path) for found in walk]


class _Own:
    """An open directory of the layer; `fd` is good unless it was let go and not reopened."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._identity = (0, 0)

    def let_go(self) -> None:
        st = os.fstat(self.fd)
        self._identity = st.st_dev, st.st_ino
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def reopen(self, child: _Own) -> None:
        """Open the directory again, where it was let go, as the one above `child`."""
        if self.fd >= 0:
            return
        self.fd = os.open(b"..", _OPEN_DIR, dir_fd=child.fd)
        st = os.fstat(self.fd)
        if (st.st_dev, st.st_ino) != self._identity:
            raise fs_error(errno.ESTALE)


class _Pair(NamedTuple):
    """One directory to compare with the old one; `old` is None if it is new.

    `aligned` says that names which the layer does not have itself are unchanged.
    """

    path: bytes
    old: NodeId | None
    new: NodeId
    own: _Own | None
    aligned: bool


_Step = tuple[_Own | None, Iterator["Changed | _Pair"]]


class ChangeWalk:
    """Walks over the changes of the layer `diff` to `lowers`.  A context manager.

    With `merged` these are the changes of `diff` and of the layers `merged` below it together;
    then every file of the union is looked at, and `own` is None for each.
    Without lowers, and with `flat`, everything is new.  `whiteouts_first` yields
    the deleted names of a directory before its other names.  `live` says that `diff`
    may change meanwhile; names that vanish are left out.  The nodeid of an entry is
    valid until the next step of the walk.
    """

    def __init__(
        self,
        diff: Path,
        lowers: Sequence[Path],
        *,
        whiteouts_first: bool = False,
        flat: bool = False,
        live: bool = False,
        merged: Sequence[Path] = (),
    ) -> None:
        self._first = whiteouts_first
        self._live = live
        self._merged = bool(merged)
        self.before = UnionFiles(lowers) if lowers and not flat else None
        self.after = UnionFiles((diff, *merged, *lowers), live=live)
        self.root = os.open(diff, _OPEN_DIR)
        self._marks = [Marks(userxattr=userxattr).redirect for userxattr in (False, True)]

    def __enter__(self) -> ChangeWalk:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.root)
        self.after.close()
        if self.before is not None:
            self.before.close()

    def __iter__(self) -> Iterator[Changed]:
        old = None if self.before is None else ROOT_NODEID
        own = None if self._merged else _Own(os.dup(self.root))
        top = _Pair(b"", old, ROOT_NODEID, own, not self._merged)
        # Not recursive: an archive may be nested deeper than Python allows calls.
        stack: list[_Step] = [(own, self._directory(top))]
        held: list[_Own] = [] if own is None else [own]
        try:
            while stack:
                found = next(stack[-1][1], None)
                if isinstance(found, Changed):
                    yield found
                elif found is not None:
                    stack.append((found.own, self._directory(found)))
                    if found.own is not None:
                        held.append(found.own)
                        if len(held) > _MOST_OPEN:
                            held[-_MOST_OPEN - 1].let_go()
                elif stack.pop()[0] is not None:
                    child = held.pop()
                    if held:
                        held[-1].reopen(child)
                    child.close()
        finally:
            for each in held:
                each.close()

    def _directory(self, pair: _Pair) -> Iterator[Changed | _Pair]:
        """Yield the changes in one directory, and each directory in it to be walked next."""
        try:
            new_names = self.after.names(pair.new)
        except OSError as error:
            if self._live and has_vanished(error):
                return
            raise
        old_names: list[bytes] = []
        if pair.old is not None and self.before is not None:
            old_names = self.before.names(pair.old)
        known = frozenset(new_names)
        gone = [name for name in old_names if name not in known]
        prefix = pair.path + b"/" if pair.path else b""
        own_names: frozenset[bytes] = frozenset()
        if pair.own is not None:
            own_names = frozenset(os.listdir(b"/proc/self/fd/%d" % pair.own.fd))
        if self._first:
            yield from (Changed("D", prefix + name, name) for name in gone)
            names = new_names
        else:
            names = sorted(new_names + gone)
        was_there = frozenset(old_names)
        for name in names:
            if name not in known:
                yield Changed("D", prefix + name, name)
            elif name in own_names or not pair.aligned or pair.old is None:
                own = pair.own.fd if pair.own is not None and name in own_names else None
                yield from self._name(pair, prefix + name, name, own, name in was_there)

    def _name(
        self, pair: _Pair, path: bytes, name: bytes, own: int | None, was_there: bool
    ) -> Iterator[Changed | _Pair]:
        try:
            new = self.after.fs.lookup(pair.new, name)
        except OSError as error:
            if self._live and has_vanished(error):
                return
            raise
        if new is None:
            return
        folder = stat.S_ISDIR(new.st.st_mode)
        old = None
        looked_up = was_there and (folder or own is None)
        if looked_up and pair.old is not None and self.before is not None:
            old = self.before.fs.lookup(pair.old, name)
        if old is None or own is not None or not _same_file(new, old):
            yield Changed("C" if was_there else "A", path, name, new, own)
            if folder:
                below = None
                if old is not None and stat.S_ISDIR(old.st.st_mode):
                    below = old.nodeid
                fd = None if own is None else self._open(name, own)
                moved = fd is not None and self._is_redirected(fd)
                folder_own = None if fd is None else _Own(fd)
                yield _Pair(path, below, new.nodeid, folder_own, pair.aligned and not moved)
        self.after.release(new)
        if old is not None and self.before is not None:
            self.before.release(old)

    def _open(self, name: bytes, own: int) -> int | None:
        try:
            return os.open(name, _OPEN_DIR, dir_fd=own)
        except OSError as error:
            if self._live and has_vanished(error):
                return None
            raise

    def _is_redirected(self, fd: int) -> bool:
        names = os.listxattr(fd)
        return any(mark in names for mark in self._marks)


def has_vanished(error: OSError) -> bool:
    """Tell whether `error` means that a file was removed or replaced meanwhile.

    A whiteout in its place cannot be opened: ENXIO.
    """
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ELOOP, errno.ENXIO)


def _same_file(new: Attr, old: Attr) -> bool:
    """Tell whether both unions show the same real file, which then is not in the layer.

    A copy of a file has the inode number of that file in a union, but never its ctime.
    """
    was, now = old.st, new.st
    return (now.st_dev, now.st_ino, now.st_ctime_ns) == (was.st_dev, was.st_ino, was.st_ctime_ns)
