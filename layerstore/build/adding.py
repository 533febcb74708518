"""ADD of archives: a file of the context that is an archive is unpacked, not copied.

A download is unpacked only with `--unpack`.

This module alone decides what is an archive (a tar, compressed or not, with any name), and
how its entries are put into the tree of an image.  Names and links of the archive are
resolved as if the destination were the root; a name that leads out of it is refused.  Owners
and modes come from the archive, unless the instruction has --chown or --chmod.

Source: the Dockerfile reference, "ADD"; moby `pkg/archive` IsArchivePath, Unpack.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from layerstore.build.destination import Destination, Given, lstat
from layerstore.build.owner import ROOT, ModeChange, Owner
from layerstore.build.source_digest import Checked, check_copy, check_unchanged
from layerstore.build.sources import DownloadSource, FileSource, Source, Sources
from layerstore.build.tree import TreeEntry
from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.instructions import Add
from layerstore.errors import InvalidImage, StoreError, shown
from layerstore.layer.index import attributes
from layerstore.limits import DEFAULT, Limits
from layerstore.tar.compression import Readable, open_decompressed
from layerstore.tar.headers import (
    BLOCK,
    BLOCK_DEVICE,
    CHAR,
    DIRECTORY,
    END,
    FIFO,
    LINK,
    REGULAR,
    SYMLINK,
    Header,
)
from layerstore.tar.pipeline import Feed
from layerstore.tar.reader import TarEntry, TarReader, normal_path
from unionfs.light_typing import Protocol
from unionfs.syscalls import xattr
from unionfs.syscalls.copyfile import copy_range

_SPECIAL = {CHAR: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_MOST_OPEN = 64
_AGAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Taker(Protocol):
    """The destination, owner and mode for the entries of an archive; a `Copier` is one."""

    @property
    def destination(self) -> Destination: ...
    @property
    def owner(self) -> Owner | None: ...
    @property
    def mode(self) -> ModeChange: ...


def add_archives(
    one: Add, sources: Sources, seen: Sequence[bytes], taker: Taker, path: str
) -> tuple[Sources, list[bytes]]:
    """Unpack the archives among the sources of `one` to `path`; return the other sources.

    `seen` are the signatures of the sources; those of the other sources are returned too.
    Raises ContainerfileError for an archive that is damaged or unsafe.
    """
    if one.unpack is False:
        return sources, list(seen)
    others: list[tuple[Source, bytes]] = []
    for source, signatures in zip(sources.found, seen, strict=True):
        if isinstance(source, DownloadSource) and one.unpack:
            done = _unpacked(one, source, taker, path)
        else:
            done = isinstance(source, FileSource) and _add(
                one, source, signatures, sources, taker, path
            )
        if not done:
            others.append((source, signatures))
    rest = sources._replace(found=tuple(source for source, _ in others))
    return rest, [signatures for _, signatures in others]


def _add(
    one: Add, source: FileSource, seen: bytes, sources: Sources, taker: Taker, path: str
) -> bool:
    """Unpack `source`, and tell whether it is an archive."""
    if not stat.S_ISREG(source.st.st_mode) or source.st.st_size < 2:
        return False
    with _opened(source, seen, sources, taker) as file:
        return _is_unpacked(one, file, source.path, taker, path)


@contextmanager
def _opened(source: FileSource, seen: bytes, sources: Sources, taker: Taker) -> Iterator[io.FileIO]:
    """Open `source`, or a copy if it could change without a trace.

    Raises StoreError if it is not what its digest was computed of.
    """
    tree = sources.tree
    parent, _, name = source.path.rpartition("/")
    above = tree.open_parent(parent)
    try:
        entry = Checked(seen).checked(TreeEntry(source.path, name, above, source.st, 1))
        with open(tree.open_file(source.path), "rb", buffering=0) as file:
            check_unchanged(entry, os.fstat(file.fileno()))
            if any(entry.expected):
                with open(taker.destination.unnamed(), "r+b", buffering=0) as copy:
                    copy_range(file.fileno(), copy.fileno(), source.st.st_size, holes=False)
                    check_copy(entry, copy.fileno())
                    yield copy
            else:
                yield file
            check_unchanged(entry, os.fstat(file.fileno()))
    finally:
        os.close(above)


def _unpacked(one: Add, source: DownloadSource, taker: Taker, path: str) -> bool:
    """Unpack a download, and tell whether it is an archive."""
    with open(os.dup(source.fd), "rb", buffering=0) as file:
        file.seek(0)
        return _is_unpacked(one, file, source.url, taker, path)


def _is_unpacked(one: Add, file: io.FileIO, name: str, taker: Taker, path: str) -> bool:
    """Unpack `file`, called `name`, if it is an archive; tell whether it is one."""
    if not is_archive(file):
        return False
    file.seek(0)
    try:
        unpack_into(file, taker, path)
    except StoreError as error:
        raise ContainerfileError(one.at, f"{shown(name)}: {error}") from error
    return True


def is_archive(file: Readable, limits: Limits = DEFAULT) -> bool:
    """Tell whether the next bytes of `file` are the header of a tar; reads from `file`."""
    try:
        stream = open_decompressed(file, limits)
        block = b""
        while len(block) < BLOCK:
            more = stream.read(BLOCK - len(block))
            if not more:
                return False
            block += more
        if block == END:
            return False
        Header(block)
    except InvalidImage:
        return False
    return True


def unpack_into(file: Readable, taker: Taker, path: str, limits: Limits = DEFAULT) -> None:
    """Unpack the archive `file` to the directory `path` of the image, made if it is missing.

    Raises InvalidImage for an archive that is damaged or unsafe, StoreError if a file cannot
    be created.
    """
    fd, made = taker.destination.folder(path, taker.owner or ROOT)
    try:
        if made and taker.mode(0o040755) != 0o040755:
            taker.destination.give(fd, taker.mode(0o040755), taker.owner or ROOT)
        unpack_tree(file, fd, taker, limits)
    finally:
        os.close(fd)


def unpack_tree(file: Readable, root_fd: int, taker: Taker, limits: Limits = DEFAULT) -> None:
    """Unpack the archive `file` into the directory `root_fd`, which is its root."""
    with ExitStack() as stack:
        feed = stack.enter_context(Feed(open_decompressed(file, limits)))
        reader = TarReader(feed, lambda _: None, limits)
        unpacker = _Unpacker(reader, root_fd, taker)
        stack.callback(unpacker.forget)
        name = "the archive"
        try:
            for entry in reader:
                name = entry.shown
                unpacker.entry(entry)
            unpacker.finish()
        except OSError as error:
            raise StoreError(f"{name} cannot be unpacked: {error.strerror}") from error


class _Unpacker:
    """Puts the entries of `reader` beneath the directory `root_fd`."""

    def __init__(self, reader: TarReader, root_fd: int, taker: Taker) -> None:
        whole = taker.destination
        self._reader = reader
        self._taker = taker
        self._to = Destination(root_fd, whole.metadata, whole.clock_ns)
        self._open: dict[bytes, int] = {}
        self._times: list[tuple[bytes, int]] = []

    def entry(self, entry: TarEntry) -> None:
        """Make one entry."""
        path = entry.path
        if not path:
            if entry.kind == DIRECTORY:
                return  # the destination stays as it is, or was made
            raise InvalidImage("the archive wants something in place of the root directory")
        above, _, name = path.rpartition(b"/")
        fd = self._folder(above)
        kind = entry.kind
        if kind == DIRECTORY:
            self._directory(entry, fd, name)
        elif kind == REGULAR:
            self._regular(entry, fd, name)
        elif kind == SYMLINK:
            self._clear(fd, name)
            self._to.symlink(fd, name, entry.linkname, self._given(entry))
            self._to.set_time((fd, name), entry.mtime_ns)
        elif kind == LINK:
            self._link(entry, fd, name)
        else:
            self._special(entry, fd, name)

    def finish(self) -> None:
        """Set the times of directories, the last one first."""
        for path, mtime_ns in reversed(self._times):
            place = self._to.locate(os.fsdecode(path))
            try:
                if place.st is not None and place.name:
                    self._to.set_time((place.fd, place.name), mtime_ns)
            finally:
                os.close(place.fd)

    def forget(self) -> None:
        """Close the directories that are open."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _folder(self, path: bytes) -> int:
        found = self._open.get(path)
        if found is None:
            if len(self._open) >= _MOST_OPEN:
                self.forget()
            found, _ = self._to.folder(os.fsdecode(path), self._taker.owner or ROOT)
            self._open[path] = found
        return found

    def _clear(self, fd: int, name: bytes) -> None:
        """Remove the file or tree at `name`, and forget open directories that were in it."""
        st = lstat(fd, name)
        if st is None:
            return
        self._to.remove(fd, name)
        if stat.S_ISDIR(st.st_mode) or stat.S_ISLNK(st.st_mode):
            keep = {path: held for path, held in self._open.items() if held == fd}
            for path, held in self._open.items():
                if path not in keep:
                    os.close(held)
            self._open = keep

    def _owner(self, entry: TarEntry) -> Owner:
        return self._taker.owner or Owner(entry.uid, entry.gid)

    def _given(self, entry: TarEntry) -> Given:
        return Given(*self._owner(entry), entry.xattrs)

    def _directory(self, entry: TarEntry, fd: int, name: bytes) -> None:
        st = lstat(fd, name)
        if st is not None and not stat.S_ISDIR(st.st_mode):
            self._clear(fd, name)
        made = self._to.directory(fd, name)
        try:
            mode = self._taker.mode(stat.S_IFDIR | entry.mode)
            self._to.give(made, mode, self._owner(entry), entry.xattrs)
        finally:
            os.close(made)
        self._times.append((entry.path, entry.mtime_ns))

    def _regular(self, entry: TarEntry, fd: int, name: bytes) -> None:
        self._clear(fd, name)
        mode = self._taker.mode(stat.S_IFREG | entry.mode)
        made = self._to.create(fd, name, mode)
        try:
            self._content(entry, made)
            self._to.give(made, mode, self._owner(entry), entry.xattrs)
            self._to.set_time(made, entry.mtime_ns)
        finally:
            os.close(made)

    def _content(self, entry: TarEntry, made: int) -> None:
        """Write the content of `entry`; each segment of a sparse file goes to its offset."""
        segments = [(0, entry.size)] if entry.segments is None else list(entry.segments)
        views = self._reader.content()
        rest = memoryview(b"")
        for offset, size in segments:
            while size:
                rest = rest or next(views)
                done = os.pwrite(made, rest[:size], offset)
                rest = rest[done:]
                offset += done
                size -= done
        if os.fstat(made).st_size != entry.size:
            os.ftruncate(made, entry.size)

    def _link(self, entry: TarEntry, fd: int, name: bytes) -> None:
        target = normal_path(entry.linkname)
        above, _, last = target.rpartition(b"/")
        st = lstat(self._folder(above), last)
        if st is None or stat.S_ISDIR(st.st_mode):
            raise InvalidImage(
                f"{entry.shown} in the archive is a hard link to something that is not there"
            )
        if target == entry.path:
            return
        fd = self._folder(entry.path.rpartition(b"/")[0])  # the lookup may have closed it
        self._clear(fd, name)
        os.link(last, name, src_dir_fd=self._folder(above), dst_dir_fd=fd, follow_symlinks=False)
        self._relink(entry, fd, name, st)

    def _relink(self, entry: TarEntry, fd: int, name: bytes, st: os.stat_result) -> None:
        """Give a file the owner, mode and times that the entry of its further name `name` has.

        The last entry of a file decides, as in docker.  Usually all its entries say the same; then
        nothing is set, since chown(2) would remove capabilities.
        """
        if not stat.S_ISREG(st.st_mode):
            return
        metadata = self._to.metadata
        mode, owner = self._taker.mode(stat.S_IFREG | entry.mode), self._owner(entry)
        named = [(os.fsencode(key), value) for key, value in attributes(xattr.at(fd, name))]
        was = metadata.shown(st, named)
        if (was.mode, was.uid, was.gid) == (mode, *owner):
            return
        again = os.open(name, _AGAIN, dir_fd=fd)
        try:
            self._to.give(again, mode, owner, entry.xattrs)
            self._to.set_time(again, entry.mtime_ns)
        finally:
            os.close(again)

    def _special(self, entry: TarEntry, fd: int, name: bytes) -> None:
        mode = self._taker.mode(_SPECIAL[entry.kind] | entry.mode)
        rdev = 0 if entry.kind == FIFO else os.makedev(*entry.device)
        self._clear(fd, name)
        self._to.special(fd, name, mode, rdev, self._given(entry))
        self._to.set_time((fd, name), entry.mtime_ns)
