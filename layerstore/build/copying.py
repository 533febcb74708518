"""COPY and ADD: sources of a tree put into the tree of an image.

    with Copier(destination, owner, mode) as copier:
        copier.copy(one, sources, seen, workdir)

This module alone decides where each source goes, and with which attributes.  The content of
a directory goes into the destination.  A file goes to the destination, or into it if that is
a directory or ends with a slash.  A file that gets another owner loses its suid and sgid
bits; --chmod can set them again.  The kernel shares or copies the data if it can.

A source that changes between the computation of its digest and its copy is an error:
otherwise the cache would return this image for content that it does not have.  If a change may
leave no trace, the copy is read and its digest compared.

Threading: one thread at a time.  Source: the Dockerfile reference, "COPY"; moby
`builder/dockerfile/copy.go`.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator

from layerstore.build.batches import Batch
from layerstore.build.destination import Destination, Given, refused
from layerstore.build.owner import ROOT, ModeChange, Owner
from layerstore.build.source_digest import Checked, check_copy, check_unchanged
from layerstore.build.sources import (
    DOWNLOAD_MODE,
    ContentSource,
    DirectorySource,
    DownloadSource,
    FileSource,
    ParentsSource,
    Source,
    Sources,
    walk_parents,
)
from layerstore.build.tree import Tree, TreeEntry, changed, unreadable
from layerstore.containerfile.instructions import Add, Copy
from layerstore.layer.metadata import Xattrs
from unionfs.syscalls import xattr
from unionfs.syscalls.copyfile import copy_range, try_reflink, write_at

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CAPABILITY = b"security.capability"
_MOST_LINKS = 100_000  # files with nlink > 1 that are remembered, to link their further names


class Copier:
    """Copies into `destination`; with `owner` None, files keep the owner in the source's tree.

    `mode` applies `--chmod` to a mode.
    """

    def __init__(
        self,
        destination: Destination,
        owner: Owner | None = None,
        mode: ModeChange | None = None,
    ) -> None:
        self.destination = destination
        self.owner = owner
        self.mode: ModeChange = mode or (lambda old: old)
        self._may_share = True
        self._keeps = False
        self._links: dict[tuple[int, int], bytes] = {}
        self.skipped: list[str] = []  # sockets

    def copy(self, one: Copy | Add, sources: Sources, seen: list[bytes], workdir: str) -> None:
        """Copy `sources` as the expanded `one` says.

        `seen` are the signatures of the files when their digests were computed.  Archives of
        an ADD are not among the sources: see `adding`.  Raises StoreError.
        """
        path = place_of(one, workdir)
        self._keeps = sources.tree.owners and self.owner is None
        for source, signatures in zip(sources.found, seen, strict=True):
            self.copy_source(source, sources, signatures, path)

    def copy_source(self, source: Source, sources: Sources, seen: bytes, path: str) -> None:
        """Copy one source to `path`, which is absolute."""
        checked = Checked(seen)
        if isinstance(source, DirectorySource):
            self._tree(sources, sources.walk(source.path), checked, path)
        elif isinstance(source, ParentsSource):
            self._tree(sources, walk_parents(source, sources), checked, path)
        elif isinstance(source, ContentSource):
            self.content(source.name, source.content, path)
        elif isinstance(source, DownloadSource):
            self.file(source.fd, source.name, path, DOWNLOAD_MODE, source.mtime_ns)
        else:
            self._single(source, sources, checked, path)

    def content(
        self, name: str, content: bytes, path: str, mode: int = 0o644, mtime_ns: int | None = None
    ) -> None:
        """Write a file with `content` to `path`, or as `name` into it."""
        with self._target(path, name) as (fd, target):
            self._write(fd, target, content, self.mode(stat.S_IFREG | mode), mtime_ns)

    def file(self, source_fd: int, name: str, path: str, mode: int, mtime_ns: int) -> None:
        """Copy the open file `source_fd`, which no process writes to, to `path` or into it."""
        with self._target(path, name) as (fd, target):
            mode = self.mode(stat.S_IFREG | mode)
            made = self.destination.create(fd, target, mode)
            try:
                self._data(source_fd, made, os.fstat(source_fd))
                self.destination.give(made, mode, self.owner or ROOT, [])
                self.destination.set_time(made, mtime_ns)
            finally:
                os.close(made)

    # -- one file --

    def _target(self, path: str, name: str) -> _Target:
        return _Target(self.destination, self.owner or ROOT, path, name)

    def _single(self, source: FileSource, sources: Sources, seen: Checked, path: str) -> None:
        parent, _, name = source.path.rpartition("/")
        above = sources.tree.open_parent(parent)
        try:
            st = _stat(sources.tree, name, above, source.path)
            entry = seen.checked(TreeEntry(source.path, name, above, st, 1))
            with self._target(path, source.name) as (fd, target):
                self._put(entry, fd, target, self._owner_of(entry, sources))
        finally:
            os.close(above)

    def _write(self, fd: int, name: bytes, content: bytes, mode: int, mtime_ns: int | None) -> None:
        made = self.destination.create(fd, name, mode)
        try:
            write_at(made, content, 0)
            self.destination.give(made, mode, self.owner or ROOT, [])
            if mtime_ns is not None:
                self.destination.set_time(made, mtime_ns)
            elif self.destination.clock_ns is not None:
                self.destination.set_time(made, self.destination.clock_ns)
        finally:
            os.close(made)

    # -- a tree --

    def _tree(
        self, sources: Sources, entries: Iterator[TreeEntry], seen: Checked, path: str
    ) -> None:
        """Copy the entries of a walk; its first entry is the directory that becomes `path`."""
        owner = self.owner or ROOT
        top, made = self.destination.folder(path, owner)
        self._links.clear()
        try:
            if made and self.mode(0o040755) != 0o040755:
                self.destination.give(top, self.mode(0o040755), owner)
            self._fill(sources, entries, seen, top)
        except OSError as error:
            raise refused(path, error) from error
        finally:
            os.close(top)

    def _fill(
        self, sources: Sources, entries: Iterator[TreeEntry], seen: Checked, top: int
    ) -> None:
        # (fd, the entry it is made of, its path beneath the top)
        levels: list[tuple[int, TreeEntry | None, bytes]] = [(top, None, b"")]
        batch = Batch(self._one_of_many)
        try:
            for walked in entries:
                if stat.S_ISSOCK(walked.st.st_mode):
                    self.skipped.append(walked.path)
                    continue
                entry = seen.checked(walked)
                if entry.depth == 0:
                    continue
                while len(levels) > entry.depth:
                    batch.finish()
                    self._leave(*levels.pop()[:2])
                fd, _, above = levels[-1]
                name = os.fsencode(entry.name)
                inside = above + b"/" + name if above else name
                owner = self._owner_of(entry, sources)
                if stat.S_ISDIR(entry.st.st_mode):
                    batch.finish()
                    made = self.destination.directory(fd, name)
                    levels.append((made, entry, inside))
                    mode = 0o040755 if entry.implied else entry.st.st_mode
                    self.destination.give(made, self.mode(mode), owner)
                elif self._linked(entry, top, fd, name, inside):
                    continue
                elif stat.S_ISREG(entry.st.st_mode) and entry.st.st_nlink == 1:
                    batch.add(entry, fd, name, owner)
                else:
                    self._put(entry, fd, name, owner)
            batch.finish()
            seen.finish()
            while len(levels) > 1:
                self._leave(*levels.pop()[:2])
        finally:
            batch.drop()
            for fd, _, _ in levels[1:]:
                os.close(fd)

    def _leave(self, fd: int, entry: TreeEntry | None) -> None:
        """Close a complete directory and set its time, which no later file will change."""
        try:
            if entry is not None and not entry.implied:
                self.destination.set_time(fd, entry.st.st_mtime_ns)
        finally:
            os.close(fd)

    def _linked(self, entry: TreeEntry, top: int, fd: int, name: bytes, inside: bytes) -> bool:
        """Link `name` to the copy of the same file, if there is one; else remember it."""
        st = entry.st
        if st.st_nlink < 2 or not stat.S_ISREG(st.st_mode):
            return False
        first = self._links.get((st.st_dev, st.st_ino))
        if first is None:
            if len(self._links) < _MOST_LINKS and len(inside) < 4096:
                self._links[st.st_dev, st.st_ino] = inside
            return False
        self.destination.remove(fd, name)
        try:
            os.link(first, name, src_dir_fd=top, dst_dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            return False
        return True

    # -- one entry --

    def _owner_of(self, entry: TreeEntry, sources: Sources) -> Owner:
        if self.owner is not None:
            return self.owner
        return Owner(entry.st.st_uid, entry.st.st_gid) if sources.tree.owners else ROOT

    def _put(self, entry: TreeEntry, fd: int, name: bytes, owner: Owner) -> None:
        """Make a copy of `entry`, which is not a directory, as `name` in `fd`."""
        kind = stat.S_IFMT(entry.st.st_mode)
        if kind == stat.S_IFREG:
            self._regular(entry, fd, name, owner)
        elif kind == stat.S_IFLNK:
            self.destination.remove(fd, name)
            target = os.readlink(os.fsencode(entry.name), dir_fd=entry.parent_fd)
            self.destination.symlink(fd, name, target, Given(*owner, []))
            self.destination.set_time((fd, name), entry.st.st_mtime_ns)
        else:
            self._special(entry, fd, name, owner)

    def _one_of_many(self, entry: TreeEntry, fd: int, name: bytes, owner: Owner) -> None:
        """Copy a regular file of a tree; an error names it."""
        try:
            self._regular(entry, fd, name, owner)
        except OSError as error:
            raise OSError(error.errno, f"{entry.shown}: {error.strerror}") from error

    def _regular(self, entry: TreeEntry, fd: int, name: bytes, owner: Owner) -> None:
        mode = self.mode(entry.st.st_mode if self._keeps else _without_suid(entry.st.st_mode))
        source = _open(entry)
        try:
            st = os.fstat(source)
            check_unchanged(entry, st)
            made = self.destination.create(fd, name, mode)
            try:
                self._data(source, made, st)
                check_copy(entry, made)
                self.destination.give(made, mode, owner, _capability(entry))
                self.destination.set_time(made, st.st_mtime_ns)
            finally:
                os.close(made)
            check_unchanged(entry, os.fstat(source))
        finally:
            os.close(source)

    def _data(self, source: int, made: int, st: os.stat_result) -> None:
        size = st.st_size
        if not size:
            return
        if self._may_share and size > 4096:
            self._may_share = try_reflink(source, made)
            if self._may_share:
                return
        copy_range(source, made, size, holes=st.st_blocks * 512 < size)

    def _special(self, entry: TreeEntry, fd: int, name: bytes, owner: Owner) -> None:
        """Make a device or a FIFO."""
        mode = self.mode(entry.st.st_mode)
        rdev = 0 if stat.S_ISFIFO(mode) else entry.st.st_rdev
        self.destination.remove(fd, name)
        self.destination.special(fd, name, mode, rdev, Given(*owner, []))
        self.destination.set_time((fd, name), entry.st.st_mtime_ns)


class _Target:
    """The directory and name that a single file is written to, as a context manager."""

    def __init__(self, destination: Destination, owner: Owner, path: str, name: str) -> None:
        self._destination = destination
        self._owner = owner
        self._path = path
        self._name = name
        self._fd = -1

    def __enter__(self) -> tuple[int, bytes]:
        name = os.fsencode(self._name)
        if self._path.endswith("/"):
            self._fd, _ = self._destination.folder(self._path, self._owner)
            return self._fd, name
        place = self._destination.locate(self._path, self._owner)
        self._fd = place.fd
        if not place.name:
            return place.fd, name
        if place.st is None or not stat.S_ISDIR(place.st.st_mode):
            return place.fd, place.name
        os.close(self._fd)
        self._fd, _ = self._destination.folder(self._path, self._owner)
        return self._fd, name

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        os.close(self._fd)
        if isinstance(error, OSError):
            raise refused(self._path, error) from error


def place_of(one: Copy | Add, workdir: str) -> str:
    """Return the absolute destination of `one`; a trailing slash is kept."""
    path = posixpath.join("/", workdir, one.destination)
    directory = path.endswith("/") or posixpath.basename(path) in (".", "..")
    return posixpath.normpath(path).replace("//", "/").rstrip("/") + ("/" if directory else "")


def _without_suid(mode: int) -> int:
    """Return the mode of a file after chown(2), as in docker's builder."""
    if mode & stat.S_IXGRP:
        mode &= ~stat.S_ISGID
    return mode & ~stat.S_ISUID


def _stat(tree: Tree, name: str, fd: int, path: str) -> os.stat_result:
    try:
        return tree.status(name, fd)
    except OSError as error:
        raise unreadable(path, error) from None


def _open(entry: TreeEntry) -> int:
    try:
        return os.open(entry.name, _OPEN, dir_fd=entry.parent_fd)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            raise changed(entry.path, "it was replaced") from None
        raise unreadable(entry.path, error) from None


def _capability(entry: TreeEntry) -> Xattrs:
    value = xattr.get_at(entry.parent_fd, os.fsencode(entry.name), _CAPABILITY)
    return [] if value is None else [(_CAPABILITY, value)]
