"""Reports of progress."""

from __future__ import annotations

import gzip
import io

from layerstore.progress import Progress, packed_ticker, ticker
from layerstore.tar.compression import open_decompressed


def test_each_tick_is_reported_with_what_it_is_about() -> None:
    seen: list[Progress] = []
    tick = ticker(seen.append, "layer", "Extracting", 100)
    assert tick is not None
    tick(1)
    tick(100)
    assert seen == [
        Progress("layer", "Extracting", 1, 100),
        Progress("layer", "Extracting", 100, 100),
    ]


def test_without_a_listener_there_is_nothing_to_call() -> None:
    assert ticker(None, "layer", "Extracting", 100) is None


def test_packed_bytes_are_counted_not_unpacked_ones() -> None:
    archive = gzip.compress(bytes(1 << 20))
    stream = open_decompressed(io.BytesIO(archive))
    seen: list[Progress] = []
    tick = packed_ticker(seen.append, "layer", "Loading", stream, len(archive))
    assert tick is not None
    tick(0)
    assert len(stream.read()) == 1 << 20
    tick(1 << 20)
    assert seen[0].done < seen[1].done == len(archive) == seen[1].total
    assert packed_ticker(None, "layer", "Loading", stream, 1) is None
