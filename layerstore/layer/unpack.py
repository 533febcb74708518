"""Unpack a layer: a tar stream becomes a directory that overlayfs can use.

Decided here and only here: what each entry of an archive does to the tree, and
in which order.  Everything is written beneath the staging directory, by `*at()` calls
on directories opened within its root that never follow the last component.
Only paths that this archive made are replaced or linked to.

- An entry for a path that the archive already had replaces it; a directory
  entry for a directory only changes its attributes.
- Whiteouts are made last, so that their place in the archive does not matter:
  they hide paths of lower layers and never an entry of this archive.
- Attributes of directories are set last, when nothing more is made in them.
- A device 0:0 is overlayfs's whiteout and counts as one.
- Runs of zeros become holes.

Source: image-spec layer.md "Applying Changesets"; umoci oci/layer tar_extract.go.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from layerstore.db.reserve import has_room
from layerstore.diff.union import UnionFiles
from layerstore.errors import InvalidImage, LimitExceeded, StoreError, UnsafePath
from layerstore.layer.deletions import Deletions
from layerstore.layer.index import EMPTY, INDEX, IndexEntry, attributes, write_index
from layerstore.layer.metadata import AttributesTooLarge, Metadata, Xattrs
from layerstore.layer.new_files import FileMaker
from layerstore.layer.pseudo_links import PREFIX, PseudoLinks
from layerstore.layer.tar_split import REPLACED, TAR_SPLIT, SplitWriter
from layerstore.layer.tree import Folder, LayerTree
from layerstore.limits import DEFAULT, Limits
from layerstore.oci.digest import Digest
from layerstore.tar.compression import Readable
from layerstore.tar.headers import CHAR, DIRECTORY, LINK, REGULAR, SYMLINK
from layerstore.tar.pipeline import Feed, Tick
from layerstore.tar.reader import TarEntry, TarReader, normal_path, show
from unionfs import (
    make_char_whiteout,
    make_xattr_whiteout,
)
from unionfs.light_typing import NamedTuple
from unionfs.syscalls import xattr
from unionfs.syscalls.openat2 import open_in_root

Lowers = Sequence[Path] | Callable[[], Sequence[Path]]

_SOME_ROOM = 1 << 20
# Errors of system calls that are caused by the archive.
_IN_ARCHIVE = (
    errno.EEXIST,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMLINK,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
)


class Unpacked(NamedTuple):
    """A layer that was unpacked: `size` has the bytes of its files, hard links counted once."""

    diff_id: Digest
    size: int
    entries: int


class _Attributes(NamedTuple):
    """The attributes that a directory gets at the end."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: Xattrs


_PLAIN = _Attributes(0o755, 0, 0, 0, [])


def unpack(
    stream: Readable,
    staging: Path,
    *,
    privileged: bool,
    lowers: Lowers = (),
    limits: Limits = DEFAULT,
    tick: Tick | None = None,
    whole: bool = False,
) -> Unpacked:
    """Unpack the uncompressed layer `stream` into `staging/diff`, which is empty or missing.

    The `index` and the `tar-split` are written next to it.  `privileged` says
    that this process is root outside of any user namespace.  `lowers` are the
    `diff` directories beneath, topmost first: a directory for which the archive
    has no entry gets the attributes it has there.  If `lowers` is a function, it is
    called when they are needed, and may wait for them.  `tick` is called with the number of
    bytes read, in another thread.  `whole` requires the end mark, which some
    writers of layers leave out.

    Raises InvalidImage if the archive cannot be a layer, StoreError if a system call
    fails; then the caller removes `staging`.
    """
    diff = staging / "diff"
    diff.mkdir(exist_ok=True)
    with ExitStack() as stack:
        feed = stack.enter_context(Feed(stream, tick))
        split = SplitWriter(staging / TAR_SPLIT)
        stack.callback(split.abandon)
        unpacker = _Unpacker(feed, split, staging, privileged, limits)
        stack.enter_context(unpacker.tree)
        stack.callback(unpacker.close)
        unpacker.run(lowers, whole=whole)
        entries = unpacker.entries
        try:
            split.close()
            write_index(staging / INDEX, [entries[path] for path in sorted(entries)])
        except OSError as error:
            raise StoreError(f"the layer cannot be recorded: {error.strerror}") from error
        return Unpacked(feed.digest(), unpacker.size, len(entries))


class _Unpacker:
    """One layer that is being unpacked.

    `entries` has every path made so far as it is on disk, directories as
    they are before `_finish_directories`.  `_notes` has the count of a file in the
    tar-split.
    """

    def __init__(
        self, feed: Feed, split: SplitWriter, staging: Path, privileged: bool, limits: Limits
    ) -> None:
        self.entries: dict[bytes, IndexEntry] = {}
        self.size = 0
        self.tree = LayerTree(staging / "diff", self._note_directory)
        self._metadata = Metadata(privileged=privileged)
        self._reader = TarReader(feed, split.raw, limits)
        self._maker = FileMaker(feed, self._reader, self._metadata)
        self._split = split
        self._staging = staging
        self._limits = limits
        self._directories: dict[bytes, _Attributes] = {}
        self._notes: dict[bytes, int] = {}
        self._deletions = Deletions(self.entries, self._make_room)
        self._pseudo = PseudoLinks(staging, self._maker, self._make_room)
        self._marks: dict[bytes, Xattrs] = {}
        self._scanned = 0
        self._names = 0
        _take_root(self.tree.fd, self._metadata)
        self._note_directory(b"")

    def run(self, lowers: Lowers, *, whole: bool) -> None:
        """Unpack everything."""
        shown = "the archive"
        try:
            for entry in self._reader:
                shown = entry.shown
                self._apply(entry)
            if whole and not self._reader.ended:
                raise InvalidImage("the archive is cut short: it has no end")
            shown = "the layer"
            self._make_whiteouts()
            self._finish_directories(lowers)
        except AttributesTooLarge as error:
            if error.errno != errno.E2BIG and not has_room(self._staging, _SOME_ROOM):
                raise _failed(shown, error) from error
            raise InvalidImage(
                f"{shown} in the archive has more in attributes than a file here can have"
            ) from error
        except OSError as error:
            if error.errno in _IN_ARCHIVE:
                raise InvalidImage(
                    f"{shown} in the archive cannot be made: {error.strerror}"
                ) from error
            raise _failed(shown, error) from error

    def close(self) -> None:
        """Remove what the archive needed only while it was unpacked."""
        self._pseudo.close()

    def _apply(self, entry: TarEntry) -> None:
        path = entry.path
        if not path:
            if entry.kind != DIRECTORY:
                raise UnsafePath("the archive wants something in place of the root directory")
            self._directories[b""] = _attributes(entry)
            return
        if b".wh." in path and self._deletions.note(path):
            if not self._pseudo.take(entry, self._split.raw):
                self._reader.skip()
            return
        folder_path, _, name = path.rpartition(b"/")
        folder = self.tree.folder(folder_path)
        real = folder.path + b"/" + name if folder.path else name
        self._make_room(real)
        kind = entry.kind
        old = self.entries.get(real)
        if old is not None:
            if kind == DIRECTORY and stat.S_ISDIR(old.mode):
                self._directories[real] = _attributes(entry)
                return
            if kind == LINK and self._link_target(entry) == real:
                return
            self._replace(real, old)
            folder = self.tree.folder(folder_path)
        if kind == REGULAR:
            self._notes[real] = self._split.file(real, entry.stored, entry.segments)
            self.entries[real] = self._maker.regular(entry, folder, name, real)
            self.size += entry.size
        elif kind == DIRECTORY:
            os.mkdir(name, 0o700, dir_fd=folder.fd)
            self._note_directory(real)
            self._directories[real] = _attributes(entry)
        elif kind == LINK:
            self._make_link(entry, folder_path, name, real)
        elif kind == SYMLINK:
            self.entries[real] = self._maker.symlink(entry, folder, name, real)
        elif kind == CHAR and entry.device == (0, 0):
            self._deletions.add(real)
        else:
            self.entries[real] = self._maker.special(entry, folder, name, real)

    def _make_room(self, real: bytes) -> None:
        """Raise LimitExceeded if one more path is too many; a few headers can imply many."""
        self._names += len(real)
        paths = len(self.entries) + self._deletions.pending
        if paths > self._limits.entries or self._names > self._limits.names:
            raise LimitExceeded(
                f"the archive makes more than {self._limits.entries:,} paths, or "
                f"{self._limits.names >> 20} MiB of names, which is the limit"
            )

    def _note_directory(self, real: bytes) -> None:
        self._make_room(real)
        self.entries[real] = IndexEntry(real, stat.S_IFDIR, 0, 0, 0, 0)

    # -- links, and what is there already --

    def _make_link(self, entry: TarEntry, folder_path: bytes, name: bytes, real: bytes) -> None:
        source = self._link_target(entry)
        if source.startswith(PREFIX) and self._make_pseudo_link(source, folder_path, name, real):
            return
        old = self.entries.get(source)
        if old is None or stat.S_ISDIR(old.mode):
            raise InvalidImage(
                f"{entry.shown} in the archive is a hard link to {show(entry.linkname)}, which is "
                + ("a directory" if old else "not a file it has put there before")
            )
        # Opening the second directory may close the fd of the first.
        target = os.dup(self.tree.folder(folder_path).fd)
        try:
            source_dir, _, source_name = source.rpartition(b"/")
            found = self.tree.folder(source_dir)
            os.link(
                source_name, name, src_dir_fd=found.fd, dst_dir_fd=target, follow_symlinks=False
            )
        finally:
            os.close(target)
        self.entries[real] = old._replace(path=real)

    def _make_pseudo_link(
        self, source: bytes, folder_path: bytes, name: bytes, real: bytes
    ) -> bool:
        """Make a link to a file that AUFS kept beside the tree; False if there is none."""
        made = self._pseudo.link(source, self.tree.folder(folder_path).fd, name, real)
        if made is None:
            return False
        self.entries[real] = made
        if self._pseudo.first(source):
            self.size += made.size
        return True

    def _link_target(self, entry: TarEntry) -> bytes:
        """Return the path, without links in it, that the hard link `entry` names."""
        path = normal_path(entry.linkname)
        folder_path, _, name = path.rpartition(b"/")
        folder = self.tree.existing(folder_path)
        return path if folder is None else folder.under(name)

    def _replace(self, real: bytes, old: IndexEntry) -> None:
        """Remove what an earlier entry made at `real`; files the tar-split needs are kept."""
        gone = [real]
        if stat.S_ISDIR(old.mode):
            self._scanned += len(self.entries)
            if self._scanned > self._limits.scans:
                raise LimitExceeded("the archive replaces its own directories too often")
            beneath = real + b"/"
            gone += [path for path in self.entries if path.startswith(beneath)]
        for path in sorted(gone, reverse=True):
            folder_path, _, name = path.rpartition(b"/")
            folder = self.tree.folder(folder_path)
            entry = self.entries.pop(path)
            number = self._notes.pop(path, None)
            if number is not None:
                os.rename(name, self._replaced() / str(number), src_dir_fd=folder.fd)
            elif stat.S_ISDIR(entry.mode):
                self._directories.pop(path, None)
                os.rmdir(name, dir_fd=folder.fd)
            else:
                os.unlink(name, dir_fd=folder.fd)
            if stat.S_ISDIR(entry.mode) or stat.S_ISLNK(entry.mode):
                self.tree.forget()

    def _replaced(self) -> Path:
        path = self._staging / REPLACED
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    # -- whiteouts --

    def _make_whiteouts(self) -> None:
        """Make overlayfs's marks for what the archive deletes."""
        opaque = {self.tree.folder(path).path for path in self._deletions.opaque()}
        for path, folder_path, name in self._deletions.whiteouts(opaque):
            own = self.entries.get(path)
            if own is None:
                self._make_whiteout(self.tree.folder(folder_path), name, path)
            elif stat.S_ISDIR(own.mode):
                opaque.add(path)
        for real in opaque:
            self._mark(real, self._metadata.marks.opaque, b"y")

    def _make_whiteout(self, folder: Folder, name: bytes, real: bytes) -> None:
        marks = self._metadata.marks
        digest = ""
        xattrs: tuple[tuple[str, bytes], ...] = ()
        try:
            make_char_whiteout(folder.fd, name)
        except PermissionError:
            # The kernel, or a seccomp filter, allows only root to make a device.
            make_xattr_whiteout(marks, folder.fd, name)
            self._mark(folder.path, marks.opaque, b"x")
            digest = EMPTY
            xattrs = ((marks.whiteout, b"y"),)
        os.utime(name, ns=(0, 0), dir_fd=folder.fd, follow_symlinks=False)
        st = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
        self.entries[real] = IndexEntry(
            real, st.st_mode, st.st_uid, st.st_gid, 0, 0, digest, b"", 0, xattrs
        )

    def _mark(self, real: bytes, name: str, value: bytes) -> None:
        """Note that the directory `real` gets one more attribute at the end."""
        self._marks[real] = [(name.encode(), value)]

    # -- directories --

    def _finish_directories(self, lowers: Lowers) -> None:
        """Set the attributes of every directory, the deepest first."""
        paths = [path for path, entry in self.entries.items() if stat.S_ISDIR(entry.mode)]
        implied = [path for path in paths if path not in self._directories]
        if implied:
            found = lowers() if callable(lowers) else lowers
            self._directories.update(_attributes_beneath(found, implied))
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        for path in sorted(paths, reverse=True):
            fd = open_in_root(self.tree.fd, path, flags)
            try:
                self.entries[path] = self._finish_directory(fd, path, self._directories[path])
            finally:
                os.close(fd)

    def _finish_directory(self, fd: int, path: bytes, wanted: _Attributes) -> IndexEntry:
        metadata = self._metadata
        mode = stat.S_IFDIR | wanted.mode
        on_disk = metadata.mode_on_disk(mode)
        uid, gid, any_set = metadata.own(fd, wanted, mode)
        marks = self._marks.get(path, [])
        for name, value in marks:
            os.setxattr(fd, name, value)
        os.fchmod(fd, stat.S_IMODE(on_disk))
        xattrs = attributes(fd) if any_set or marks else ()
        os.utime(fd, ns=(wanted.mtime_ns, wanted.mtime_ns))
        mtime_ns = os.fstat(fd).st_mtime_ns
        return IndexEntry(path, on_disk, uid, gid, 0, mtime_ns, "", b"", 0, xattrs)


def _failed(shown: str, error: OSError) -> StoreError:
    return StoreError(f"unpacking {shown} failed: {error.strerror or error}")


def _take_root(fd: int, metadata: Metadata) -> None:
    """Remove what a new directory inherited from its parent: group, setgid bit, default ACL."""
    os.fchown(fd, -1, metadata.gid)
    os.fchmod(fd, 0o700)
    for name in xattr.list_fd(fd):
        if name.startswith("system.posix_acl"):
            os.removexattr(fd, name)


def _attributes(entry: TarEntry) -> _Attributes:
    return _Attributes(entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.xattrs)


def _attributes_beneath(lowers: Sequence[Path], paths: Sequence[bytes]) -> dict[bytes, _Attributes]:
    """Return the attributes of `paths` in the layers beneath, or the default ones."""
    if not lowers:
        return dict.fromkeys(paths, _PLAIN)
    found: dict[bytes, _Attributes] = {}
    with UnionFiles(lowers) as union:
        for path in paths:
            attr = union.find(path)
            found[path] = _PLAIN
            if attr is not None and stat.S_ISDIR(attr.st.st_mode):
                found[path] = _Attributes(
                    stat.S_IMODE(attr.st.st_mode),
                    attr.st_uid,
                    attr.st_gid,
                    attr.st.st_mtime_ns,
                    union.xattrs(attr.nodeid),
                )
    return found
