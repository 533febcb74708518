"""A tree that a build copies from: a context, a stage or an image, reached by a descriptor.

This module alone decides how a path in a source tree is found, and which files are visible.
Links are followed within the tree and never out of it; a file that the ignore file names is
invisible.  A walk opens each directory beneath its parent, follows no link, and holds one
list of names for each level, so its memory does not grow with the number of files.

Threading: one thread at a time.  Source: moby `builder/remotecontext/archive.go`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator

from layerstore.build.ignore import Ignore
from layerstore.build.match import BadPattern, has_wildcards, matcher
from layerstore.errors import StoreError, shown
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.openat2 import open_in_root
from unionfs.syscalls.privilege import is_machine_root

_DEEPEST = 400  # directories in each other, each held open by a walk
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Found(NamedTuple):
    """The file that a path leads to: its `path` in the tree, without links, and its status."""

    path: str
    st: os.stat_result


class TreeEntry(NamedTuple):
    """A file in a walk: `path` is its path in the tree; the first entry has the `depth` 0.

    `parent_fd` is the open directory that `name` is in; it is valid until the walk goes on.
    A directory is `implied` if it is ignored but contains a file that is not: then only its
    name matters.  `expected` is the beginning of the digest that a copy has to have, if it has to.
    """

    path: str
    name: str
    parent_fd: int
    st: os.stat_result
    depth: int
    implied: bool = False
    expected: bytes = b""

    @property
    def shown(self) -> str:
        """The path for messages."""
        return shown(self.path or "/")


class _Level:
    """An open directory of a walk; `names` are those still to visit, in reverse order.

    `waiting` is the entry of an ignored directory until a file in it has to be yielded.
    """

    __slots__ = ("fd", "names", "path", "waiting")

    def __init__(self, fd: int, path: str, names: list[str], waiting: TreeEntry | None) -> None:
        self.fd = fd
        self.path = path
        self.names = names
        self.waiting = waiting


class Tree:
    """The tree beneath the directory `fd`, which the caller closes; `ignore` hides files.

    With `owners`, as for a stage, files keep their owners; the files of a context belong to
    root in the image, whatever their owner on this machine is.  What an ordinary user's layers
    only record, an owner or a device, counts as what it is.
    """

    def __init__(self, fd: int, ignore: Ignore | None = None, *, owners: bool = False) -> None:
        self.fd = fd
        self.ignore = ignore or Ignore()
        self.owners = owners
        self._recorded = owners and not is_machine_root()
        self._root = os.readlink(f"/proc/self/fd/{fd}")

    def find(self, path: str) -> Found | None:
        """Follow the links of `path`; return its file, None if it is missing or ignored."""
        try:
            fd = open_in_root(self.fd, os.fsencode(path), os.O_PATH)
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise unreadable(path, error) from None
        try:
            real = os.readlink(f"/proc/self/fd/{fd}")
            inside = real[len(self._root) :].lstrip("/")
            found = Found(inside, self._as_recorded(os.fstat(fd), fd))
        finally:
            os.close(fd)
        if not self.ignore.hides(found.path):
            return found
        return found if self._shows_some(found) else None

    def status(self, name: str, fd: int) -> os.stat_result:
        """Return the status of `name` in the directory `fd`; no link is followed."""
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if not self._recorded or stat.S_ISLNK(st.st_mode):
            return st
        opened = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            return self._as_recorded(st, opened)
        finally:
            os.close(opened)

    def _as_recorded(self, st: os.stat_result, fd: int) -> os.stat_result:
        if not self._recorded or not (stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode)):
            return st
        from layerstore.layer.records import OVERRIDE_STAT, as_recorded

        try:
            return as_recorded(st, os.getxattr(f"/proc/self/fd/{fd}", OVERRIDE_STAT))
        except OSError:
            return st  # nothing is recorded, or the filesystem has no attributes

    def is_circle(self, path: str) -> bool:
        """Tell whether the link `path` is in a loop, or leads through too many links."""
        try:
            os.close(open_in_root(self.fd, os.fsencode(path), os.O_PATH))
        except OSError as error:
            return error.errno == errno.ELOOP
        return False

    def sees(self, path: str, st: os.stat_result) -> bool:
        """Tell whether the build sees `path`, also as a directory with files that it sees."""
        if not self.ignore.hides(path):
            return True
        return stat.S_ISDIR(st.st_mode) and self.ignore.may_show_beneath(path)

    def _shows_some(self, hidden: Found) -> bool:
        """Tell whether the ignored directory `hidden` contains a file that is not ignored."""
        if not self.sees(hidden.path, hidden.st):
            return False
        entries = self._below(hidden.path)
        try:
            return next(entries, None) is not None
        finally:
            entries.close()

    def open_file(self, path: str) -> int:
        """Open the regular file `path`, as `find` returned it, for reading."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return open_in_root(self.fd, os.fsencode(path), flags)
        except OSError as error:
            raise unreadable(path, error) from None

    def open_parent(self, path: str) -> int:
        """Open the directory `path`, a parent in a path that `find` returned."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            return open_in_root(self.fd, os.fsencode(path), flags)
        except OSError as error:
            raise unreadable(path, error) from None

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match `pattern`, sorted; no link on the way is followed.

        Raises StoreError if the pattern is malformed.
        """
        parts = [part for part in pattern.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise StoreError(f"{shown(pattern)} leads out of the tree: `..` is not for wildcards")
        try:
            matches = [matcher(part) for part in parts]
        except BadPattern:
            raise StoreError(f"{shown(pattern)} is not a pattern: syntax error in it") from None
        top = self.open_parent("")  # the root of a stage is open as a path, which cannot be listed
        try:
            return sorted(self._glob(top, "", parts, matches, 0), key=os.fsencode)
        finally:
            os.close(top)

    def _glob(
        self, fd: int, above: str, parts: list[str], matches: list[Callable[[str], bool]], at: int
    ) -> list[str]:
        literal = not has_wildcards(parts[at]) and "\\" not in parts[at]
        found: list[str] = []
        try:
            names = [parts[at]] if literal else os.listdir(fd)
        except OSError as error:
            raise unreadable(above, error) from None
        for name in names:
            if not literal and not matches[at](name):
                continue
            path = f"{above}/{name}" if above else name
            try:
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except OSError as error:
                if error.errno in _MISSING:
                    continue
                raise unreadable(path, error) from None
            if not self.sees(path, st):
                continue
            if at + 1 == len(parts):
                found.append(path)
            elif stat.S_ISDIR(st.st_mode):
                beneath = open_directory(name, fd, path)
                try:
                    found += self._glob(beneath, path, parts, matches, at + 1)
                finally:
                    os.close(beneath)
        return found

    def walk(self, path: str) -> Iterator[TreeEntry]:
        """Yield the directory `path`, which `find` returned, and the visible files beneath it.

        A directory comes before its content; names are in the order of their bytes.
        """
        top = self.open_parent(path)
        try:
            st = self._as_recorded(os.fstat(top), top)
            yield TreeEntry(path, "", top, st, 0, self.ignore.hides(path))
            yield from self._beneath(top, path)
        finally:
            os.close(top)

    def _below(self, path: str) -> Generator[TreeEntry, None, None]:
        """Yield the visible files beneath the directory `path`."""
        top = self.open_parent(path)
        try:
            yield from self._beneath(top, path)
        finally:
            os.close(top)

    def _beneath(self, top: int, path: str) -> Iterator[TreeEntry]:
        """Yield the visible files beneath the open directory `top`."""
        # The first level is the caller's.
        levels = [_Level(top, path, self._names(top, path), None)]
        try:
            while levels:
                level = levels[-1]
                if not level.names:
                    levels.pop()
                    if levels:
                        os.close(level.fd)
                    continue
                name = level.names.pop()
                inside = f"{level.path}/{name}" if level.path else name
                try:
                    st = self.status(name, level.fd)
                except FileNotFoundError:
                    raise changed(inside, "it was removed") from None
                entry = TreeEntry(inside, name, level.fd, st, len(levels))
                hidden = self.ignore.hides(inside)
                if not hidden:
                    yield from _waiting(levels)
                    yield entry
                elif not stat.S_ISDIR(st.st_mode) or not self.ignore.may_show_beneath(inside):
                    continue
                if stat.S_ISDIR(st.st_mode):
                    levels.append(self._level(entry, wait=hidden))
        finally:
            for level in levels[1:]:
                os.close(level.fd)

    def _level(self, entry: TreeEntry, *, wait: bool) -> _Level:
        """Open the directory `entry`; with `wait` it is yielded before the first file in it."""
        if entry.depth >= _DEEPEST:
            raise StoreError(f"{entry.shown} is in {_DEEPEST} directories: that is too deep")
        fd = open_directory(entry.name, entry.parent_fd, entry.path)
        try:
            names = self._names(fd, entry.path)
        except BaseException:
            os.close(fd)
            raise
        return _Level(fd, entry.path, names, entry if wait else None)

    def _names(self, fd: int, path: str) -> list[str]:
        try:
            return sorted(os.listdir(fd), key=os.fsencode, reverse=True)
        except OSError as error:
            raise unreadable(path, error) from None


def _waiting(levels: list[_Level]) -> Iterator[TreeEntry]:
    """Yield the ignored parent directories of a file that is about to be yielded."""
    for level in levels:
        if level.waiting is not None:
            entry, level.waiting = level.waiting, None
            yield entry._replace(implied=True)


def open_directory(name: str, parent_fd: int, path: str) -> int:
    """Open the directory `name`; `path` is for the error."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent_fd)
    except OSError as error:
        if error.errno in _MISSING:
            raise changed(path, "it is no directory any more") from None
        raise unreadable(path, error) from None


def unreadable(path: str, error: OSError) -> StoreError:
    """Return the error of a source that cannot be read."""
    return StoreError(f"{shown(path or '/')} cannot be read: {error.strerror}")


def changed(path: str, how: str) -> StoreError:
    """Return the error of a source that changes while it is read."""
    return StoreError(
        f"{shown(path or '/')} changed while it was read: {how}; "
        "try again when nothing writes to it"
    )
