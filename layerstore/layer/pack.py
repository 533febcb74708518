"""Pack a layer in overlay format, or a whole tree of layers, into a tar stream.

Decided here and only here: what of a tree is written to its archive, and in which
order.  A directory comes before its entries, its whiteouts before its other entries,
and names are in the order of their bytes.  So the same change of the same tree has
the same diff_id on every machine.  It does not depend on the forms of the marks, on
the order in which the disk lists names, or on whether a directory was renamed or copied.

The tree is read through the union's core: a redirect becomes whiteouts and
the whole directory, a metacopy becomes the whole file, and an opaque directory becomes
whiteouts of what it hides.  The root of a layer has an entry if an attribute other than its
time was changed; without layers beneath, if it has another owner or mode than 0:0 and 0755, or
extended attributes.  Sockets are left out: tar has none.

Source: image-spec layer.md "Representing Changes"; for an opaque directory it says that explicit
whiteouts should be written, where docker writes a mark.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from layerstore.diff.changes import Changed, ChangeWalk, has_vanished
from layerstore.diff.union import UnionFiles, open_node
from layerstore.errors import InvalidImage, StoreError
from layerstore.layer.index import INDEX, IndexEntry, scan, write_index
from layerstore.layer.metadata import Metadata, Shown, Xattrs
from layerstore.layer.tar_split import MOST_PATH, TAR_SPLIT, SplitWriter
from layerstore.layer.tar_writer import TarWriter, worthy_ranges
from layerstore.oci.digest import Digest
from layerstore.tar.headers import (
    BLOCK_DEVICE,
    CHAR,
    DIRECTORY,
    FIFO,
    LINK,
    REGULAR,
    SYMLINK,
    NewEntry,
    format_entry,
    format_sparse_map,
)
from layerstore.tar.pipeline import Sink, Tick, Writable
from layerstore.tar.reader import show
from unionfs import AUFS_PREFIX, FUSE_OVERLAYFS_PREFIX
from unionfs.light_typing import NamedTuple
from unionfs.syscalls import xattr
from unionfs.types import ROOT_NODEID, Attr

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOATIME | os.O_CLOEXEC
_PLAIN_ROOT = Shown(stat.S_IFDIR | 0o755, 0, 0, 0, 0, [])  # that of a layer without an entry for it
_KINDS = {
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFREG: REGULAR,
    stat.S_IFDIR: DIRECTORY,
}


class Packed(NamedTuple):
    """What was packed: `size` has the bytes of the files in it, `archive_size` those of all.

    If there are no `entries` the layer changes nothing.
    """

    diff_id: Digest
    size: int
    entries: int
    archive_size: int


class Packing(NamedTuple):
    """How an archive differs from that of a layer that our union wrote.

    `flat` packs the merged tree of all layers.  `live` says that `diff` may change
    meanwhile; what vanishes is left out.  `sparse` stores files with large holes in GNU's
    format, which a layer must not have.  The paths in `skip` are left out.  The layers
    `merged`, between the lowers and `diff`, are packed with it into one.  Without `hashing`
    there is no diff_id.  `any_names` says that `diff` was not written by our union, which
    makes no names that mean whiteouts in an archive, and no marks of fuse-overlayfs, which
    it would obey; with a `record`, one that is there is refused (InvalidImage).
    """

    flat: bool = False
    live: bool = False
    sparse: bool = False
    skip: Collection[bytes] = frozenset()
    merged: Sequence[Path] = ()
    hashing: bool = True
    any_names: bool = False


PLAIN = Packing()


def pack(
    diff: Path,
    lowers: Sequence[Path],
    out: Writable | None = None,
    *,
    privileged: bool,
    record: Path | None = None,
    tick: Tick | None = None,
    how: Packing = PLAIN,
) -> Packed:
    """Write the archive of the layer `diff` over the `lowers`, topmost first, to `out`.

    Without `out` the archive is not written, only hashed.  `record` is the directory in
    which to write the layer's `index` and `tar-split`; there is none with any `how` but
    `any_names`.  `tick` is called with the number of bytes that are done, in another thread.
    Nothing may change `diff` meanwhile, unless it is `live`.  Raises StoreError, and OSError
    if a file cannot be read or `out` cannot be written.
    """
    with ExitStack() as stack:
        sink = stack.enter_context(Sink(out, tick, hashing=how.hashing))
        split = None
        if record is not None:
            split = SplitWriter(record / TAR_SPLIT)
            stack.callback(split.abandon)
        walk = stack.enter_context(
            ChangeWalk(
                *(diff, lowers),
                whiteouts_first=True,
                flat=how.flat,
                live=how.live,
                merged=how.merged,
            )
        )
        packer = _Packer(walk, TarWriter(sink, split), Metadata(privileged=privileged), how)
        packed = packer.run(sink)
        if record is not None and split is not None:
            split.close()
            entries = scan(diff, known=packer.known, digests=packer.digests)
            write_index(record / INDEX, _without_marks(entries) if how.any_names else entries)
        return packed


def _without_marks(entries: Iterator[IndexEntry]) -> Iterator[IndexEntry]:
    for entry in entries:
        if entry.path.rpartition(b"/")[2].startswith(AUFS_PREFIX):
            raise InvalidImage(
                f"{show(b'/' + entry.path)} cannot be in a layer, where a name that begins with "
                ".wh. means that a file was removed"
            )
        for name, _ in entry.xattrs:
            if name.startswith(FUSE_OVERLAYFS_PREFIX):
                raise InvalidImage(
                    f"{show(b'/' + entry.path)} cannot be in a layer with the attribute "
                    f"{show(name.encode())}, which there means that files were removed or replaced"
                )
        yield entry


class _Packer:
    """One archive that is being written.

    `digests` are those of files in the layer's own directory; `known` are complete index
    entries of other paths in it.  A flat one always has an entry of the root.
    """

    def __init__(
        self,
        walk: ChangeWalk,
        tar: TarWriter,
        metadata: Metadata,
        how: Packing,
    ) -> None:
        self.digests: dict[bytes, str] = {}
        self.known: dict[bytes, IndexEntry] = {}
        self._walk = walk
        self._union = walk.after
        self._tar = tar
        self._metadata = metadata
        self._how = how
        self._links: dict[tuple[int, int], bytes] = {}
        self._size = 0
        self._hidden = (metadata.marks.prefix, metadata.marks.escaped)
        self._redirecting = (metadata.marks.metacopy, metadata.marks.redirect)

    def run(self, sink: Sink) -> Packed:
        """Write everything."""
        self._root()
        for found in self._walk:
            if found.path in self._how.skip:
                continue
            if len(found.path) > MOST_PATH:
                raise self._too_long(found.path)
            if found.attr is None:
                folder = found.path[: len(found.path) - len(found.name)]
                name = folder + AUFS_PREFIX + found.name
                self._tar.header(format_entry(NewEntry(name, REGULAR, 0)))
            else:
                try:
                    self._entry(found, found.attr)
                except OSError as error:
                    if not self._how.live or not has_vanished(error):
                        raise
        self._tar.end()
        diff_id = sink.finish()
        return Packed(diff_id, self._size, self._tar.entries, sink.size)

    def _too_long(self, path: bytes) -> StoreError:
        # A frozen layer keeps it for ever, but the container no longer shows it.
        advice = "remove it" if self._walk.before is None else "remove it, and export what is left"
        return StoreError(
            f"{show(path)} cannot be packed: its path has {len(path):,} bytes, and one in an image "
            f"or an archive {MOST_PATH:,} at most: {advice}"
        )

    def _root(self) -> None:
        now = self._look(self._union, self._union.fs.getattr(ROOT_NODEID))
        was = _PLAIN_ROOT
        if self._walk.before is not None:
            before = self._walk.before
            was = self._look(before, before.fs.getattr(ROOT_NODEID))
        if self._how.flat or now._replace(mtime_ns=0) != was._replace(mtime_ns=0):
            self._tar.header(_header(b"./", DIRECTORY, now))

    def _look(self, union: UnionFiles, attr: Attr) -> Shown:
        return self._metadata.shown(attr.st, union.xattrs(attr.nodeid))

    def _entry(self, found: Changed, attr: Attr) -> None:
        st, path = attr.st, found.path
        if stat.S_ISREG(st.st_mode) and st.st_nlink == 1 and self._plain_file(found, st):
            return
        own = self._own_stat(found, st)
        key = (st.st_dev, st.st_ino)
        if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode):
            first = self._links.setdefault(key, path)
            if first != path:
                if own and first in self.digests:
                    self.digests[path] = self.digests[first]
                self._tar.header(self._link(path, first, found, attr))
                return
        xattrs, plain = self._xattrs(found, attr, own=own)
        shown = self._metadata.shown(st, xattrs)
        kind = _KINDS.get(stat.S_IFMT(shown.mode))
        if kind == REGULAR:
            self._regular(found, attr, shown, own=own and plain)
        elif kind == SYMLINK:
            target = self._union.fs.readlink(attr.nodeid)
            self._tar.header(_header(path, kind, shown, linkname=target))
        elif kind == DIRECTORY:
            self._tar.header(_header(path + b"/", kind, shown))
        elif kind is not None:
            self._tar.header(_header(path, kind, shown))

    def _plain_file(self, found: Changed, st: os.stat_result) -> bool:
        """Write a file without attributes that is in the layer itself; False for another file.

        Most files are like that, and need only few system calls on their fd.
        """
        if found.own is None or not st.st_size:
            return False
        fd = _open(found.name, found.own)
        try:
            there = os.fstat(fd)
            if (there.st_dev, there.st_ino) != (st.st_dev, st.st_ino) or xattr.list_fd(fd):
                return False
            path, size = found.path, there.st_size
            shown = self._metadata.shown(there, [])
            if self._how.sparse and self._as_pieces(fd, path, shown, there):
                return True
            self._tar.header(_header(path, REGULAR, shown, size=size))
            digest = self._tar.content(fd, path, size, there.st_blocks, shown=False)
        finally:
            os.close(fd)
        self._size += size
        self.known[path] = IndexEntry(
            path, st.st_mode, st.st_uid, st.st_gid, size, st.st_mtime_ns, digest
        )
        return True

    def _as_pieces(self, fd: int, path: bytes, shown: Shown, st: os.stat_result) -> bool:
        """Write a file without its holes; False if it has too few."""
        ranges = worthy_ranges(fd, st.st_size, st.st_blocks)
        if ranges is None:
            return False
        sparse_map = format_sparse_map(ranges, st.st_size)
        stored = len(sparse_map) + sum(end - start for start, end in ranges)
        header = _header(path, REGULAR, shown, size=stored, sparse_size=st.st_size)
        self._tar.header(header)
        self._tar.pieces(fd, path, sparse_map, ranges)
        self._size += st.st_size
        return True

    def _link(self, path: bytes, first: bytes, found: Changed, attr: Attr) -> bytes:
        shown = self._metadata.shown(attr.st, self._xattrs(found, attr, own=False)[0])
        return _header(path, LINK, shown._replace(xattrs=[]), linkname=first)

    def _own_stat(self, found: Changed, st: os.stat_result) -> bool:
        """Tell whether the visible file is in the layer itself, under the same path."""
        if found.own is None:
            return False
        try:
            there = os.stat(found.name, dir_fd=found.own, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (st.st_dev, st.st_ino)

    def _xattrs(self, found: Changed, attr: Attr, *, own: bool) -> tuple[Xattrs, bool]:
        """Return the attributes that users see, and whether the content is in the same file."""
        if own and found.own is not None:
            names = xattr.list_at(found.own, found.name)
            plain = not any(name in names for name in self._redirecting)
            if all(name.startswith(self._hidden[0]) for name in names) and not any(
                name.startswith(self._hidden[1]) for name in names
            ):
                return [], plain
            return self._union.xattrs(attr.nodeid), plain
        return self._union.xattrs(attr.nodeid), False

    def _regular(self, found: Changed, attr: Attr, shown: Shown, *, own: bool) -> None:
        path, size = found.path, attr.st.st_size
        if not size and not self._how.live:
            self._tar.header(_header(path, REGULAR, shown))
            return
        if own and found.own is not None:
            fd = _open(found.name, found.own)
        else:
            fd = open_node(self._union.fs, attr.nodeid)
        try:
            blocks = attr.st.st_blocks
            if self._how.live or not own or self._how.sparse:
                st = os.fstat(fd)
                if not stat.S_ISREG(st.st_mode):
                    return  # the file was replaced meanwhile, for example by a FIFO
                size, blocks = st.st_size, st.st_blocks
                if self._how.sparse and self._as_pieces(fd, path, shown, st):
                    return
            self._tar.header(_header(path, REGULAR, shown, size=size))
            digest = self._tar.content(fd, path, size, blocks, shown=not own)
        finally:
            os.close(fd)
        self._size += size
        if own:
            self.digests[path] = digest


def _open(name: bytes, dir_fd: int) -> int:
    try:
        return os.open(name, _OPEN, dir_fd=dir_fd)
    except PermissionError:
        # Only the owner, or root, may ask for O_NOATIME.
        return os.open(name, _OPEN & ~os.O_NOATIME, dir_fd=dir_fd)


def _header(
    name: bytes,
    kind: bytes,
    shown: Shown,
    *,
    size: int = 0,
    linkname: bytes = b"",
    sparse_size: int | None = None,
) -> bytes:
    return format_entry(
        NewEntry(
            name=name,
            kind=kind,
            mode=stat.S_IMODE(shown.mode),
            uid=shown.uid,
            gid=shown.gid,
            size=size,
            mtime_ns=shown.mtime_ns,
            linkname=linkname,
            device=(os.major(shown.rdev), os.minor(shown.rdev)),
            xattrs=shown.xattrs,
            sparse_size=sparse_size,
        )
    )
