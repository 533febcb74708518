"""The exact tar of a layer, without a second copy of its files on disk.

Decided here and only here: how an archive is split into the bytes that are not
content of a file, which are stored unchanged, and references to the files of the unpacked
layer; and how it is assembled again, so that its digest, the layer's diff_id, is
the same whatever tool wrote the archive.

The format is our own.  That of vbatts/tar-split, which docker and
containers/storage use, is JSON lines with the raw bytes in base64.  It refuses an
archive that has a path twice (storage.ErrDuplicatePath), and it has no entry
for the segments of a sparse file or for a file that only the union of layers
shows.  This store needs all three.

The file is compressed with zstd.  After the magic there are records, with integers in
little-endian.  R: bytes, unchanged.  F: a file of the layer's own `diff`.  U: a
file that the layer shows and a layer beneath has, which is read through the union
of both.  E: the end, and the size of the archive.  F and U are counted from 0.
If an archive has a path twice, the first file is not in `diff` but in
`replaced`, where its name is its count.

Source: vbatts/tar-split for the idea.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import zstandard

from layerstore.diff.union import UnionFiles
from layerstore.errors import DigestMismatch, InvalidImage
from layerstore.layer.holes import data_ranges
from layerstore.oci.digest import Digest
from layerstore.tar.pipeline import Sink, Tick, Writable
from layerstore.tar.reader import Segments, show
from unionfs.light_typing import TYPE_CHECKING, NamedTuple, cast
from unionfs.syscalls.openat2 import open_in_root

if TYPE_CHECKING:
    from typing import BinaryIO

TAR_SPLIT = "tar-split"
REPLACED = "replaced"

MOST_PATH = (1 << 16) - 1  # bytes; a record has two bytes for the length of a path

MAGIC = b"pyunion-tar-split 1\n"
_RAW, _FILE, _SHOWN, _END = b"RFUE"
_RAW_HEAD = struct.Struct("<BI")
_FILE_HEAD = struct.Struct("<BHQI")
_END_HEAD = struct.Struct("<BQ")
_PAIR = struct.Struct("<QQ")
_LEVEL = 3
_RAW_MOST = 1 << 20
_MOST_PAIRS = 1 << 17
_DIRS = 256
_SMALL = 1 << 16  # a file of at most so many bytes is read without looking for holes
_LONGEST_PATH = 4096
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Archive(NamedTuple):
    """The digest of an uncompressed layer, which is the diff_id, and its size in bytes."""

    diff_id: Digest
    size: int


class SplitWriter:
    """Writes the tar-split file `path` while the archive is read or written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._out = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_writer(
            self._file
        )
        self._records = bytearray(MAGIC)
        self._pending = bytearray()
        self._count = 0
        self._size = 0

    def raw(self, data: bytes | memoryview) -> None:
        """Store `data` unchanged."""
        self._pending += data
        if len(self._pending) >= _RAW_MOST:
            self._end_raw()

    def file(
        self, path: bytes, stored: int, segments: Segments | None, *, shown: bool = False
    ) -> int:
        """Note that `stored` bytes of the file `path` follow; return the count of the record.

        If the file is sparse they are the bytes at `segments`.
        """
        self._end_raw()
        pairs = segments or ()
        kind = _SHOWN if shown else _FILE
        self._records += _FILE_HEAD.pack(kind, len(path), stored, len(pairs)) + path
        for pair in pairs:
            self._records += _PAIR.pack(*pair)
        self._size += stored
        self._count += 1
        return self._count - 1

    def close(self) -> None:
        """End the file."""
        self._end_raw()
        self._records += _END_HEAD.pack(_END, self._size)
        self._out.write(self._records)
        self._out.close()  # type: ignore[no-untyped-call]

    def abandon(self) -> None:
        """Close the file unfinished; reading it raises InvalidImage."""
        self._file.close()

    def _end_raw(self) -> None:
        """Make a record of the pending bytes; the compressor gets many records at once."""
        pending, records = self._pending, self._records
        if pending:
            records += _RAW_HEAD.pack(_RAW, len(pending))
            records += pending
            self._size += len(pending)
            pending.clear()
        if len(records) >= _RAW_MOST:
            self._out.write(records)
            records.clear()


class Piece(NamedTuple):
    """A part of the archive: `raw` bytes, or the content of the file `path`.

    Of a file there are `stored` bytes, those at `segments` if it is sparse.  If it is `shown`,
    a layer beneath has it.
    """

    raw: bytes
    path: bytes = b""
    stored: int = 0
    segments: Segments | None = None
    shown: bool = False


def _pieces(path: Path) -> Iterator[Piece]:
    """Yield the pieces of the archive in order; raises InvalidImage if the file is damaged."""
    size = 0
    try:
        with path.open("rb") as file:
            decoder = zstandard.ZstdDecompressor().stream_reader(file)
            stream = cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", decoder), _RAW_MOST))
            if _exactly(stream, len(MAGIC)) != MAGIC:
                raise ValueError("it is of another version")
            while (piece := _parse(stream, size)) is not None:
                size += len(piece.raw) + piece.stored
                yield piece
    except FileNotFoundError:
        raise InvalidImage(f"the tar-split {path} is missing") from None
    except (zstandard.ZstdError, ValueError) as error:
        raise InvalidImage(f"the tar-split {path} is damaged: {error}") from None


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ValueError("it is cut short")
    return data


def _parse(stream: BinaryIO, size: int) -> Piece | None:
    """Return the next record; at the end None, after a comparison with `size`, that of all."""
    kind = _exactly(stream, 1)
    if kind[0] == _RAW:
        _, length = _RAW_HEAD.unpack(kind + _exactly(stream, _RAW_HEAD.size - 1))
        return Piece(_exactly(stream, length))
    if kind[0] in (_FILE, _SHOWN):
        head = kind + _exactly(stream, _FILE_HEAD.size - 1)
        _, length, stored, count = _FILE_HEAD.unpack(head)
        path = _exactly(stream, length)
        if count > _MOST_PAIRS:
            raise ValueError("a sparse map is too long")
        pairs = _exactly(stream, count * _PAIR.size)
        segments = list(_PAIR.iter_unpack(pairs)) if count else None
        return Piece(b"", path, stored, segments, kind[0] == _SHOWN)
    if kind[0] != _END:
        raise ValueError(f"it holds an unknown record {kind!r}")
    _, total = _END_HEAD.unpack(kind + _exactly(stream, _END_HEAD.size - 1))
    if total != size:
        raise ValueError("records are missing")
    return None


def archive_size(layer: Path) -> int:
    """Return the size in bytes of the archive that `assemble` makes of the directory `layer`."""
    return sum(len(piece.raw) + piece.stored for piece in _pieces(layer / TAR_SPLIT))


def assemble(
    layer: Path,
    out: Writable | None,
    *,
    lowers: Sequence[Path] = (),
    tick: Tick | None = None,
) -> Archive:
    """Write the exact archive of the layer in the directory `layer` to `out`, if given.

    `lowers` are the `diff` directories beneath it, topmost first; they are
    read only for files that the layer shows of them.  The caller compares the
    returned diff_id with the layer's.  Raises InvalidImage or DigestMismatch
    if the layer is damaged, OSError if `out` cannot be written.
    """
    with Sink(out, tick) as sink:
        for piece, opened in opened_pieces(layer, lowers):
            if opened is None:
                sink.write(piece.raw)
            else:
                _copy(opened.file, piece, sink)
        return Archive(sink.finish(), sink.size)


class Opened(NamedTuple):
    """The file of a piece, which is `in_tree` if its path leads to it in the layer's `diff`."""

    file: BinaryIO
    in_tree: bool


def opened_pieces(layer: Path, lowers: Sequence[Path]) -> Iterator[tuple[Piece, Opened | None]]:
    """Yield the pieces of an archive, those with a path with the file, open until the next.

    See `assemble` for the arguments and errors.
    """
    with ExitStack() as stack:
        files = stack.enter_context(_LayerFiles(layer))
        union: UnionFiles | None = None
        for piece in _pieces(layer / TAR_SPLIT):
            if not piece.path:
                yield piece, None
                continue
            if piece.shown:
                if union is None:
                    stack_of = (layer / "diff", *lowers)
                    union = stack.enter_context(UnionFiles(stack_of))
                opened = Opened(union.open(piece.path), in_tree=False)
            else:
                in_tree = not files.next_is_replaced
                opened = Opened(files.open(piece.path), in_tree)
            with opened.file:
                yield piece, opened


def _copy(file: BinaryIO, piece: Piece, sink: Sink) -> None:
    fd = file.fileno()
    for offset, size in piece.segments or ((0, piece.stored),):
        end = offset + size
        if size > _SMALL and _has_holes(fd, end):
            for start, stop in data_ranges(fd, end, offset):
                sink.zeros(start - offset)
                _copy_data(fd, start, stop - start, sink, piece.path)
                offset = stop
            sink.zeros(end - offset)
        else:
            _copy_data(fd, offset, size, sink, piece.path)


def _has_holes(fd: int, size: int) -> bool:
    """Tell whether the file `fd` has `size` bytes, and some of all its bytes are holes."""
    st = os.fstat(fd)
    return st.st_size >= size and st.st_blocks * 512 < st.st_size


def _copy_data(fd: int, offset: int, size: int, sink: Sink, path: bytes) -> None:
    """Write `size` bytes of the file `fd` from `offset` to `sink`.

    `path` is for the message.  Raises DigestMismatch if the file is shorter.
    """
    while size:
        room = sink.room()
        done = os.preadv(fd, [room[:size]], offset)
        if done == 0:
            raise DigestMismatch(
                f"{show(path)} of a layer is shorter than it was: the layer is damaged; "
                "`pyunion check` says where"
            )
        sink.filled(done)
        offset += done
        size -= done


class _LayerFiles:
    """Opens the files of one layer, in the order of its archive."""

    def __init__(self, layer: Path) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._root = os.open(layer / "diff", flags)
        self._layer = layer
        self._dirs: dict[bytes, int] = {}
        self._count = 0
        replaced = layer / REPLACED
        self._replaced = frozenset(os.listdir(replaced) if replaced.is_dir() else ())

    @property
    def next_is_replaced(self) -> bool:
        """Whether the archive has the path of the next file twice, and this is the first."""
        return str(self._count) in self._replaced

    def open(self, path: bytes) -> BinaryIO:
        """Open the next file, whose path in the archive is `path`."""
        number = str(self._count)
        self._count += 1
        try:
            if number in self._replaced:
                fd = os.open(self._layer / REPLACED / number, _OPEN)
            else:
                folder, _, name = path.rpartition(b"/")
                fd = os.open(name, _OPEN, dir_fd=self._folder(folder))
        except OSError as error:
            raise DigestMismatch(
                f"{show(path)} of the layer {self._layer} cannot be read ({error.strerror}): the "
                "layer is damaged"
            ) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise DigestMismatch(f"{show(path)} of the layer {self._layer} is no file any more")
        return open(fd, "rb", buffering=0)

    def _folder(self, folder: bytes) -> int:
        fd = self._dirs.get(folder)
        if fd is None:
            if len(self._dirs) >= _DIRS:
                self._forget()
            fd = self._dirs[folder] = self._open_folder(folder)
        return fd

    def _open_folder(self, folder: bytes) -> int:
        flags = os.O_PATH | os.O_DIRECTORY
        at = self._root
        try:
            # The kernel takes no longer path, but a container may have made one.
            while len(folder) >= _LONGEST_PATH:
                cut = max(folder.rfind(b"/", 0, _LONGEST_PATH), 0)
                below = open_in_root(at, folder[:cut], flags)
                if at != self._root:
                    os.close(at)
                at, folder = below, folder[cut + 1 :]
            return open_in_root(at, folder, flags)
        finally:
            if at != self._root:
                os.close(at)

    def _forget(self) -> None:
        for fd in self._dirs.values():
            os.close(fd)
        self._dirs.clear()

    def __enter__(self) -> _LayerFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        os.close(self._root)
