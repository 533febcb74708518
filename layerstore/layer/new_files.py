"""Make one file of a layer: its content, then owner, attributes, mode and times.

Decided here and only here: the order of those steps.  chown(2) clears suid and
capabilities, so it comes first; times come last, since every other step changes
them.  Each step uses the file's own fd, or its name without following a link,
and makes no system call that it does not need.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

import xxhash

from layerstore.layer.holes import BLOCK, ContentHasher
from layerstore.layer.index import EMPTY, IndexEntry, attributes
from layerstore.layer.metadata import Metadata
from layerstore.layer.tree import Folder
from layerstore.tar.headers import BLOCK_DEVICE, CHAR, FIFO
from layerstore.tar.pipeline import Feed
from layerstore.tar.reader import TarEntry, TarReader
from unionfs.syscalls import xattr
from unionfs.syscalls.attributes import chmod_at
from unionfs.syscalls.copyfile import write_at

Raw = Callable[[bytes | memoryview], None]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ZEROS = bytes(4096)
_PAGE = len(_ZEROS)
_MAY_BE_SPARSE = 1 << 16  # files of at least so many bytes are searched for runs of zeros
_USUAL_NS = 1 << 61  # every filesystem stores a time from 0 to this one unchanged
_TYPES = {CHAR: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}


class FileMaker:
    """Makes the files that `reader` reads from `feed`."""

    def __init__(self, feed: Feed, reader: TarReader, metadata: Metadata) -> None:
        self._feed = feed
        self._reader = reader
        self._metadata = metadata
        self._umask = _umask()

    def regular(
        self, entry: TarEntry, folder: Folder, name: bytes, path: bytes, *, raw: Raw | None = None
    ) -> IndexEntry:
        """Make the regular file `name` in `folder`, with its content, which `raw` gets too."""
        mode = self._metadata.mode_on_disk(stat.S_IFREG | entry.mode)
        first = mode & 0o777
        fd = os.open(name, _CREATE, first, dir_fd=folder.fd)
        try:
            digest = self._write(fd, entry, raw)
            uid, gid, any_set = self._metadata.own(fd, entry, stat.S_IFREG | entry.mode)
            if any_set or stat.S_IMODE(mode) != first & ~self._umask:
                os.fchmod(fd, stat.S_IMODE(mode))
            # Read them again: the mode changes an ACL, and a kernel may rewrite a capability.
            xattrs = attributes(fd) if any_set else ()
            mtime_ns = entry.mtime_ns
            os.utime(fd, ns=(mtime_ns, mtime_ns))
            if not 0 <= mtime_ns < _USUAL_NS:
                mtime_ns = os.fstat(fd).st_mtime_ns
        finally:
            os.close(fd)
        size = entry.size
        return IndexEntry(path, mode, uid, gid, size, mtime_ns, digest, b"", 0, xattrs)

    def symlink(self, entry: TarEntry, folder: Folder, name: bytes, path: bytes) -> IndexEntry:
        """Make the symbolic link `name` in `folder`."""
        target = entry.linkname
        os.symlink(target, name, dir_fd=folder.fd)
        mode = stat.S_IFLNK | 0o777
        uid, gid, any_set = self._metadata.own((folder.fd, name), entry, mode)
        xattrs = attributes(xattr.at(folder.fd, name)) if any_set else ()
        mtime_ns = self._set_times(entry, folder, name)
        return IndexEntry(path, mode, uid, gid, 0, mtime_ns, "", target, 0, xattrs)

    def special(self, entry: TarEntry, folder: Folder, name: bytes, path: bytes) -> IndexEntry:
        """Make the device or fifo `name` in `folder`, or a file that records it."""
        mode = _TYPES[entry.kind] | entry.mode
        rdev = 0 if entry.kind == FIFO else os.makedev(*entry.device)
        recorded = not self._metadata.privileged and entry.kind != FIFO
        if recorded:
            on_disk, rdev_on_disk = stat.S_IFREG | 0o600, 0
        else:
            on_disk, rdev_on_disk = self._metadata.mode_on_disk(mode), rdev
        os.mknod(name, on_disk, rdev_on_disk, dir_fd=folder.fd)
        uid, gid, any_set = self._metadata.own(
            (folder.fd, name), entry, mode, rdev, record=recorded
        )
        chmod_at(folder.fd, name, stat.S_IMODE(on_disk))
        xattrs = attributes(xattr.at(folder.fd, name)) if any_set else ()
        mtime_ns = self._set_times(entry, folder, name)
        digest = xxhash.xxh3_128_hexdigest(b"") if recorded else ""
        return IndexEntry(path, on_disk, uid, gid, 0, mtime_ns, digest, b"", rdev_on_disk, xattrs)

    def _set_times(self, entry: TarEntry, folder: Folder, name: bytes) -> int:
        mtime_ns = entry.mtime_ns
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=folder.fd, follow_symlinks=False)
        if not 0 <= mtime_ns < _USUAL_NS:
            mtime_ns = os.stat(name, dir_fd=folder.fd, follow_symlinks=False).st_mtime_ns
        return mtime_ns

    # -- content --

    def _views(self, raw: Raw | None) -> Iterator[memoryview]:
        """Yield the stored bytes of the present entry, handing each piece to `raw` first."""
        for view in self._reader.content():
            if raw is not None:
                raw(view)
            yield view

    def _write(self, fd: int, entry: TarEntry, raw: Raw | None) -> str:
        """Write the content of `entry` to the empty file `fd`; return its digest."""
        if entry.segments is not None:
            return self._write_segments(fd, entry, raw)
        if not entry.size:
            return EMPTY
        sparse = entry.size >= _MAY_BE_SPARSE
        digest, hasher = EMPTY, None
        at = 0
        for view in self._views(raw):
            size = len(view)
            if size == entry.size < BLOCK:
                digest = xxhash.xxh3_128_hexdigest(view)
            else:
                hasher = hasher or ContentHasher()
                hasher.update(view)
            if sparse:
                self._write_with_holes(fd, view, at)
            else:
                write_at(fd, view, at)
            at += size
        if sparse:
            os.ftruncate(fd, entry.size)
        return digest if hasher is None else hasher.digest()

    def _write_with_holes(self, fd: int, view: memoryview, offset: int) -> None:
        """Write `view` at `offset`, except whole pages of zeros."""
        buffer, end = self._feed.buffer, self._feed.at
        start = end - len(view)
        shift = offset - start  # from a place in the buffer to one in the file
        done = start
        while (found := buffer.find(_ZEROS, done, end)) >= 0:
            hole = found + -(found + shift) % _PAGE
            stop = hole
            while stop + _PAGE <= end and buffer.startswith(_ZEROS, stop):
                stop += _PAGE
            if stop == hole:
                # The zeros do not fill a page.
                stop = min(hole + _PAGE, end)
                hole = stop
            write_at(fd, view[done - start : hole - start], done + shift)
            done = stop
        write_at(fd, view[done - start :], done + shift)

    def _write_segments(self, fd: int, entry: TarEntry, raw: Raw | None) -> str:
        """Write a file of which only some pieces are stored, with holes between them."""
        hasher = ContentHasher()
        views = self._views(raw)
        rest = memoryview(b"")
        at = 0
        for offset, size in entry.segments or ():
            hasher.zeros(offset - at)
            at = offset
            while size:
                rest = rest or next(views)
                piece, rest = rest[:size], rest[size:]
                hasher.update(piece)
                write_at(fd, piece, at)
                at += len(piece)
                size -= len(piece)
        hasher.zeros(entry.size - at)
        os.ftruncate(fd, entry.size)
        return hasher.digest()


def _umask() -> int:
    """Return the umask of this process, which only the kernel can tell without changing it."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777  # then every mode is set by name
