"""Bytes handed from one thread to another: all of them, in order, errors included."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable

import pytest

from layerstore.tar.pipeline import CHUNK, Feed, Sink

DATA = os.urandom(3 * CHUNK + 12345)


class Dribble(io.RawIOBase):
    """A pipe that gives little at a time."""

    def __init__(self, data: bytes) -> None:
        self.inner = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self.inner.readinto(buffer[:70_001])


@pytest.mark.parametrize("source", [io.BytesIO, Dribble])
@pytest.mark.parametrize("step", [512, 1000, CHUNK, 2 * CHUNK])
def test_all_of_it_in_order(source: Callable[[bytes], io.RawIOBase], step: int) -> None:
    ticks: list[int] = []
    with Feed(source(DATA), ticks.append) as feed:
        parts = []
        while data := feed.take(step):
            parts.append(data)
        assert b"".join(parts) == DATA
        assert feed.digest() == "sha256:" + hashlib.sha256(DATA).hexdigest()
    assert ticks == sorted(ticks) and ticks[-1] == len(DATA)


def test_views_rest_and_what_is_passed_over() -> None:
    with Feed(io.BytesIO(DATA)) as feed:
        assert feed.take(5) == DATA[:5]
        kept: list[bytes] = []
        assert feed.pass_over(CHUNK, lambda view: kept.append(bytes(view))) == CHUNK
        assert b"".join(kept) == DATA[5 : CHUNK + 5]
        assert b"".join(map(bytes, feed.views(10))) == DATA[CHUNK + 5 : CHUNK + 15]
        assert b"".join(map(bytes, feed.rest())) == DATA[CHUNK + 15 :]
        assert feed.take(1) == b""


def test_an_error_of_reading_comes_out() -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            raise OSError(5, "broken")

    with Feed(Broken()) as feed, pytest.raises(OSError, match="broken"):
        feed.take(1)


def test_threads_end() -> None:
    before = threading.active_count()
    feed = Feed(io.BytesIO(DATA * 4))
    feed.take(1)
    feed.close()
    feed.close()
    sink = Sink()
    sink.write(DATA)
    sink.close()
    sink.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("step", [100, 65_536, CHUNK, len(DATA)])
def test_a_sink_writes_and_hashes(step: int) -> None:
    out = io.BytesIO()
    with Sink(out) as sink:
        for at in range(0, len(DATA), step):
            sink.write(DATA[at : at + step])
        sink.zeros(CHUNK + 5)
        room = sink.room()
        room[:3] = b"end"
        sink.filled(3)
        digest = sink.finish()
    wanted = DATA + bytes(CHUNK + 5) + b"end"
    assert out.getvalue() == wanted
    assert digest == "sha256:" + hashlib.sha256(wanted).hexdigest()
    assert sink.size == len(wanted)


def test_an_error_of_writing_comes_out() -> None:
    class Full(io.RawIOBase):
        def write(self, data: object) -> int:
            raise OSError(28, "full")

    with Sink(Full()) as sink, pytest.raises(OSError, match="full"):
        sink.write(DATA)
        sink.write(DATA * 3)
        sink.finish()


def test_an_output_that_takes_little_at_a_time() -> None:
    class Slow(io.RawIOBase):
        taken = b""

        def write(self, data: memoryview) -> int:  # type: ignore[override]
            self.taken += bytes(data[:999_999])
            return min(len(data), 999_999)

    out = Slow()
    with Sink(out) as sink:
        sink.write(DATA)
        sink.finish()
    assert out.taken == DATA
