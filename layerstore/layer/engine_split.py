"""The tar-split of containers/storage, read from its stores and written for its engines.

Decided here and only here: what the two formats have in common.  Theirs is JSON lines: bytes of
the archive in base64, and for each file its path beneath the layer, its size and a checksum.  What
it cannot express is stored as bytes: a file that is sparse, that a layer beneath has, or whose path
the archive has twice.

Source: vbatts/tar-split tar/storage/entry.go, packer.go, tar/asm/assemble.go.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from layerstore.errors import DigestMismatch, InvalidImage
from layerstore.layer.crc64 import crc64
from layerstore.layer.tar_split import Opened, Piece, SplitWriter, opened_pieces
from layerstore.oci.json_values import Object
from layerstore.tar.reader import show
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_LONGEST_LINE = 1 << 26  # bytes
_FILE, _SEGMENT = 1, 2
_CHUNK = 1 << 18
_LEVEL = 6
MOST_COPIED = 1 << 26
"""Bytes of files that are stored as bytes: with more of them there is no tar-split."""


def write_engine_split(layer: Path, lowers: Sequence[Path], there: Path) -> bool:
    """Write the tar-split of the layer in the directory `layer` as `there`; tell whether it can be.

    `lowers` are the `diff` directories beneath it, topmost first.  Raises InvalidImage or
    DigestMismatch if the layer is damaged.
    """
    copied, paths = 0, set()
    with gzip.GzipFile(there, "xb", compresslevel=_LEVEL, mtime=0) as out:
        position = 0

        def add(entry: Object) -> None:
            nonlocal position
            entry["position"] = position
            position += 1
            out.write(json.dumps(entry).encode() + b"\n")

        for piece, opened in opened_pieces(layer, lowers):
            if opened is None:
                add(_bytes_entry(piece.raw))
            elif opened.in_tree and piece.segments is None and piece.path not in paths:
                paths.add(piece.path)
                add(_file_entry(piece, opened))
            else:
                copied += piece.stored
                if copied > MOST_COPIED:
                    break
                for data in _content(piece, opened):
                    add(_bytes_entry(data))
    if copied > MOST_COPIED:
        there.unlink()
    return copied <= MOST_COPIED


def _bytes_entry(data: bytes) -> Object:
    return {"type": _SEGMENT, "payload": base64.b64encode(data).decode()}


def _file_entry(piece: Piece, opened: Opened) -> Object:
    checksum = 0
    for data in _content(piece, opened):
        checksum = crc64(data, checksum)
    entry: Object = {"type": _FILE}
    try:
        entry["name"] = piece.path.decode()
    except UnicodeDecodeError:
        entry["name_raw"] = base64.b64encode(piece.path).decode()
    entry["size"] = piece.stored
    entry["payload"] = base64.b64encode(checksum.to_bytes(8, "big")).decode()
    return entry


def _content(piece: Piece, opened: Opened) -> Iterator[bytes]:
    """Yield what the archive has of a file; raises DigestMismatch if the file is shorter."""
    fd = opened.file.fileno()
    for offset, size in piece.segments or ((0, piece.stored),):
        end = offset + size
        while offset < end:
            data = os.pread(fd, min(_CHUNK, end - offset), offset)
            if not data:
                raise DigestMismatch(
                    f"{show(piece.path)} of a layer is shorter than it was: the layer is damaged; "
                    "`pyunion check` says where"
                )
            yield data
            offset += len(data)


def read_engine_split(there: Path, here: Path) -> None:
    """Write the tar-split `there` of containers/storage as `here`, in the format of this store.

    Raises InvalidImage if it is missing or damaged.
    """
    writer = SplitWriter(here)
    try:
        with gzip.open(there, "rb") as lines:
            for kind, data, size in _entries(lines):
                if kind == _SEGMENT:
                    writer.raw(data)
                elif size:
                    writer.file(_clean(data), size, None)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        writer.abandon()
        raise InvalidImage(f"the tar-split {there} cannot be read: {error}") from None
    writer.close()


def _entries(lines: BinaryIO | gzip.GzipFile) -> Iterator[tuple[int, bytes, int]]:
    """Yield kind, bytes or path, and size of each entry; raises ValueError."""
    while line := lines.readline(_LONGEST_LINE):
        entry = json.loads(line)
        if not isinstance(entry, dict):
            raise ValueError("a line is not an object")
        kind, payload, size = entry.get("type"), entry.get("payload"), entry.get("size", 0)
        if kind == _SEGMENT and isinstance(payload, str):
            yield kind, base64.b64decode(payload, validate=True), 0
        elif kind == _FILE and isinstance(size, int) and size >= 0:
            yield kind, _path(entry), size
        else:
            raise ValueError("a line is neither a file nor a segment")


def _path(entry: Object) -> bytes:
    raw, name = entry.get("name_raw"), entry.get("name", "")
    if isinstance(raw, str):
        return base64.b64decode(raw, validate=True)
    if not isinstance(name, str):
        raise binascii.Error("a file without a name")
    return name.encode()


def _clean(path: bytes) -> bytes:
    """Return the path beneath the layer; raises ValueError if it leads out of it."""
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if not parts or b".." in parts:
        raise ValueError(f"the path {path[:64]!r} leads out of the layer")
    return b"/".join(parts)
