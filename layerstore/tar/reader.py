"""A tar stream as a sequence of entries, extended headers and sparse maps applied.

This module alone decides which headers belong together, which names are refused before the
disk is touched, and where the content of a file begins and ends.  Every byte of the stream
that is not content is passed to `raw`, so that the archive can be written again exactly.

A global PAX header has no effect, as in docker; in practice it contains only a comment.
Links have no content, even if their header has a size.

Source: POSIX pax(1); the GNU tar manual, "Sparse Formats"; image-spec layer.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from layerstore.errors import InvalidImage, LimitExceeded, NotATar, UnsafePath
from layerstore.limits import DEFAULT, Limits
from layerstore.tar.headers import (
    BLOCK,
    BLOCK_DEVICE,
    CHAR,
    CONTIGUOUS,
    DIRECTORY,
    END,
    FIFO,
    GNU_DUMPDIR,
    GNU_LABEL,
    GNU_LONG_LINK,
    GNU_LONG_NAME,
    GNU_SPARSE,
    LINK,
    OLD_REGULAR,
    PAX,
    PAX_GLOBAL,
    PAX_SUN,
    REGULAR,
    SYMLINK,
    XATTR,
    Header,
    old_sparse_map,
    padding,
    parse_pax,
    pax_number,
    pax_time_ns,
)
from layerstore.tar.pipeline import short
from unionfs.light_typing import Protocol

Segments = list[tuple[int, int]]

_KINDS = {
    REGULAR: REGULAR,
    OLD_REGULAR: REGULAR,
    CONTIGUOUS: REGULAR,
    GNU_SPARSE: REGULAR,
    LINK: LINK,
    SYMLINK: SYMLINK,
    CHAR: CHAR,
    BLOCK_DEVICE: BLOCK_DEVICE,
    DIRECTORY: DIRECTORY,
    GNU_DUMPDIR: DIRECTORY,
    FIFO: FIFO,
}
_LONGEST_PATH = 4096
_MOST_PAIRS = 1 << 16
_MOST_NS = (1 << 63) - 1  # the year 2262, and 1677 before the epoch


class TarEntry:
    """One entry: `path` is normalized and relative to the root, b"" for the root itself.

    `size` is the size of the file in bytes, and `stored` the number of its bytes in the
    archive.  The `segments` of a sparse file are the (offset, size) pairs of its data.
    """

    __slots__ = (
        "device",
        "gid",
        "kind",
        "linkname",
        "mode",
        "mtime_ns",
        "path",
        "segments",
        "size",
        "stored",
        "uid",
        "xattrs",
    )

    def __init__(self, header: Header) -> None:
        self.kind = _KINDS[header.kind]
        self.path = header.name
        self.linkname = header.linkname
        self.mode = header.mode
        self.uid = header.uid
        self.gid = header.gid
        self.size = header.size
        self.stored = header.size
        self.mtime_ns = header.mtime_ns
        self.device = (header.major, header.minor)
        self.xattrs: list[tuple[bytes, bytes]] = []
        self.segments: Segments | None = None

    @property
    def shown(self) -> str:
        """The path as messages show it."""
        return show(self.path)


def show(path: bytes) -> str:
    """Return `path` for a message: quoted, escaped, and at most 200 characters."""
    text = path.decode(errors="backslashreplace")
    if not text.isprintable():
        text = text.encode("unicode_escape").decode()
    return f"“{text[:197] + '…' if len(text) > 200 else text or '/'}”"


class Source(Protocol):
    """A source of the bytes of an archive; see `Feed`."""

    def take(self, size: int) -> bytes: ...
    def views(self, size: int) -> Iterator[memoryview]: ...
    def pass_over(self, size: int, raw: Callable[[memoryview], None]) -> int: ...
    def rest(self) -> Iterator[memoryview]: ...


class TarReader:
    """Iterates over the entries of the archive that comes from `feed`.

    `content` reads the content of an entry before the iteration goes on; content that is
    not read is passed to `raw` like everything else.
    """

    def __init__(
        self, feed: Source, raw: Callable[[bytes | memoryview], None], limits: Limits = DEFAULT
    ) -> None:
        self._feed = feed
        self._raw = raw
        self._limits = limits
        self._left = 0  # unread bytes of the current content
        self._padding = 0
        self._count = 0
        self._total = 0
        self.ended = False  # True after the end mark, not just at the end of the stream

    def __iter__(self) -> Iterator[TarEntry]:
        while (entry := self._next()) is not None:
            yield entry
        for view in self._feed.rest():
            self._raw(view)

    def content(self) -> Iterator[memoryview]:
        """Yield the stored bytes of the current entry; raises InvalidImage if they end early."""
        for view in self._feed.views(self._left):
            self._left -= len(view)
            yield view
        if self._left:
            raise short("a file")

    def skip(self) -> None:
        """Pass the content of the current entry, or the rest of it, to `raw`."""
        left, self._left = self._left, 0
        if self._feed.pass_over(left, self._raw) < left:
            raise short("a file")

    def _next(self) -> TarEntry | None:
        if self._left:
            self.skip()
        pax: dict[bytes, bytes] = {}
        long_name = long_link = None
        while True:
            block = self._block()
            if block is None:
                if pax or long_name or long_link:
                    raise short("a header")
                return None
            header = Header(block)
            kind = header.kind
            if kind in _KINDS:
                return self._entry(header, block, pax, long_name, long_link)
            if kind in (PAX, PAX_SUN):
                pax = parse_pax(self._extended(header))
            elif kind == GNU_LONG_NAME:
                long_name = self._extended(header).partition(b"\0")[0]
            elif kind == GNU_LONG_LINK:
                long_link = self._extended(header).partition(b"\0")[0]
            elif kind in (PAX_GLOBAL, GNU_LABEL):
                self._extended(header)
            else:
                raise InvalidImage(
                    f"the archive holds {show(header.name)}, an entry of the unknown type {kind!r}"
                )

    def _block(self) -> bytes | None:
        """Return the next header block, None at the end of the archive."""
        if self._padding:
            self._take(self._padding, "the padding of a file")
            self._padding = 0
        block = self._feed.take(BLOCK)
        if not block:
            return None
        if len(block) < BLOCK:
            raise NotATar("the archive is cut short: it ends within a header")
        self._raw(block)
        if block != END:
            self._count += 1
            if self._count > self._limits.entries:
                raise LimitExceeded(
                    f"the archive holds more than {self._limits.entries:,} headers, "
                    "which is the limit"
                )
            return block
        self.ended = True
        second = self._feed.take(BLOCK)
        self._raw(second)
        if second != END[: len(second)]:
            # Programs disagree on the meaning of the bytes that follow.
            raise InvalidImage("the archive is damaged: it goes on behind a lone block of zeros")
        return None

    def _take(self, size: int, what: str) -> bytes:
        data = self._feed.take(size)
        if len(data) < size:
            raise short(what)
        self._raw(data)
        return data

    def _extended(self, header: Header) -> bytes:
        """Return the content of an extended header."""
        size = header.size
        if not 0 <= size <= self._limits.header:
            raise LimitExceeded(
                f"the archive holds an extended header of {size:,} bytes; "
                f"the limit is {self._limits.header:,}"
            )
        data = self._take(size, "an extended header")
        self._take(padding(size), "an extended header")
        return data

    def _entry(
        self,
        header: Header,
        block: bytes,
        pax: dict[bytes, bytes],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> TarEntry:
        entry = TarEntry(header)
        if long_name is not None:
            entry.path = long_name
        if long_link is not None:
            entry.linkname = long_link
        if pax:
            _apply_pax(entry, pax)
        if entry.kind == REGULAR:
            # Before POSIX, a file whose name ends in a slash was a directory.
            if entry.path.endswith(b"/") and header.kind in (REGULAR, OLD_REGULAR):
                entry.kind = DIRECTORY
                if entry.stored:
                    # GNU tar skips the content; Go reads it as headers or makes a file.
                    raise InvalidImage(f"{entry.shown} in the archive is a directory with content")
            else:
                self._find_content(entry, header, block, pax)
        else:
            entry.size = entry.stored = 0
        entry.path = normal_path(entry.path)
        if not -_MOST_NS <= entry.mtime_ns <= _MOST_NS:
            entry.mtime_ns = _MOST_NS if entry.mtime_ns > 0 else -_MOST_NS
        if b"\0" in entry.linkname:
            raise InvalidImage(f"{entry.shown} in the archive is a link to a name with a NUL")
        major, minor = entry.device
        if not 0 <= major < 1 << 12 or not 0 <= minor < 1 << 20:
            raise InvalidImage(f"{entry.shown} in the archive has no valid device: {major}:{minor}")
        if not 0 <= entry.uid < 0xFFFFFFFF or not 0 <= entry.gid < 0xFFFFFFFF:
            raise InvalidImage(
                f"{entry.shown} in the archive has no valid owner: {entry.uid}:{entry.gid}"
            )
        return entry

    def _find_content(
        self, entry: TarEntry, header: Header, block: bytes, pax: dict[bytes, bytes]
    ) -> None:
        self._left = entry.stored
        self._padding = padding(max(entry.stored, 0))
        if header.kind == GNU_SPARSE:
            entry.segments, entry.size = self._old_sparse(block)
        elif b"GNU.sparse.major" in pax or b"GNU.sparse.size" in pax or b"GNU.sparse.map" in pax:
            entry.segments, entry.size = self._pax_sparse(entry, pax)
        if entry.stored < 0 or entry.size < 0:
            raise InvalidImage(f"the archive is damaged: {entry.shown} has a negative size")
        self._total += entry.size
        if self._total > self._limits.size:
            raise LimitExceeded(
                f"the files of the archive come to more than {self._limits.size >> 30} GiB, "
                "which is the limit"
            )
        if entry.segments is not None:
            _check_segments(entry)

    def _old_sparse(self, block: bytes) -> tuple[Segments, int]:
        pairs, more, size = old_sparse_map(block, extension=False)
        while more:
            extension = self._take(BLOCK, "a sparse map")
            found, more, _ = old_sparse_map(extension, extension=True)
            pairs += found
            if len(pairs) > _MOST_PAIRS:
                raise LimitExceeded("the archive holds a sparse file of too many pieces")
        return pairs, size

    def _pax_sparse(self, entry: TarEntry, pax: dict[bytes, bytes]) -> tuple[Segments, int]:
        name = pax.get(b"GNU.sparse.name")
        if name is not None:
            entry.path = name
        size = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size")
        if size is None:
            raise InvalidImage(f"the archive is damaged: sparse {entry.shown} has no size")
        if pax.get(b"GNU.sparse.major", b"0") == b"0":
            numbers = [
                pax_number(part, "sparse map")
                for part in pax.get(b"GNU.sparse.map", b"").split(b",")
                if part
            ]
        else:
            numbers = self._sparse_map_in_content(entry)
        if len(numbers) % 2 or len(numbers) > 2 * _MOST_PAIRS:
            raise InvalidImage(f"the archive is damaged: the sparse map of {entry.shown}")
        return list(zip(numbers[::2], numbers[1::2], strict=True)), pax_number(size, "size")

    def _sparse_map_in_content(self, entry: TarEntry) -> list[int]:
        """Read the map of format 1.0: one decimal number a line, in whole blocks, then the data."""
        text, wanted, found = bytearray(), 1, 0
        while found < wanted:
            if entry.stored < BLOCK or len(text) > self._limits.header:
                raise InvalidImage(f"the archive is damaged: the sparse map of {entry.shown}")
            text += self._take(BLOCK, "a sparse map")
            entry.stored -= BLOCK
            self._left -= BLOCK
            before, found = found, found + text.count(b"\n", len(text) - BLOCK)
            if found and not before:
                count = bytes(text).partition(b"\n")[0]
                wanted = 1 + 2 * pax_number(count, "sparse map")
                if not 0 < wanted <= 2 * _MOST_PAIRS:
                    raise LimitExceeded("the archive holds a sparse file of too many pieces")
        return [pax_number(line, "sparse map") for line in bytes(text).split(b"\n")[1:wanted]]


def _apply_pax(entry: TarEntry, pax: dict[bytes, bytes]) -> None:
    for key, value in pax.items():
        if key.startswith(XATTR):
            entry.xattrs.append((key[len(XATTR) :], value))
        elif not value:
            continue  # the header's own value stays, as in Go
        elif key == b"path":
            entry.path = value
        elif key == b"linkpath":
            entry.linkname = value
        elif key == b"mtime":
            entry.mtime_ns = pax_time_ns(value)
        elif key == b"size":
            entry.size = entry.stored = pax_number(value, "size")
        elif key == b"uid":
            entry.uid = pax_number(value, "uid")
        elif key == b"gid":
            entry.gid = pax_number(value, "gid")


def _check_segments(entry: TarEntry) -> None:
    """Raise InvalidImage unless the segments are in order, fit, and add up to `stored`."""
    at = total = 0
    for offset, size in entry.segments or ():
        if size < 0 or offset < at or offset + size > entry.size:
            raise InvalidImage(f"the archive is damaged: the sparse map of {entry.shown}")
        at = offset + size
        total += size
    if total != entry.stored:
        raise InvalidImage(f"the archive is damaged: the sparse map of {entry.shown}")


def _without_dots(parts: list[bytes], name: bytes) -> list[bytes]:
    kept: list[bytes] = []
    for part in parts:
        if part != b"..":
            kept.append(part)
        elif kept:
            kept.pop()
        else:
            raise UnsafePath(f"{show(name)} in the archive leads out of it by its “..”")
    return kept


def normal_path(name: bytes) -> bytes:
    """Return the path of `name` beneath the root, without `.` and superfluous slashes.

    An absolute name starts at the root too, and `..` removes the component before it, even
    if that is a link, as in docker.  Raises UnsafePath for a name that leads out.
    """
    path = name[2:] if name.startswith(b"./") else name
    path = path.strip(b"/")
    if b"/." in path or b"//" in path or path.startswith(b"."):
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            parts = _without_dots(parts, name)
        path = b"/".join(parts)
    if b"\0" in path or len(path) > _LONGEST_PATH:
        raise InvalidImage(f"{show(name)} in the archive is not a name a file can have")
    return path
