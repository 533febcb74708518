"""Reports of progress."""

from __future__ import annotations

import gzip
import io

import pytest

from layerstore.progress import Progress, Status, silent, ticker
from layerstore.tar.compression import open_decompressed


@pytest.mark.parametrize("status", Status)
def test_a_status_is_in_words(status: Status) -> None:
    assert status.value[0].isupper() and status.value == status.value.strip()


def test_what_moves_is_being_done() -> None:
    moving = {status for status in Status if status.moves}
    assert {Status.DOWNLOADING, Status.EXTRACTING, Status.PUSHING, Status.COPYING} < moving
    assert not {Status.PULLED, Status.PUSHED, Status.COPIED, Status.VERIFYING} & moving
    silent(Progress("a", Status.PULLED))


def test_bytes_are_reported_now_and_then_and_at_the_end() -> None:
    seen: list[Progress] = []
    tick = ticker(seen.append, Progress("layer", Status.SAVING, total=3_000_000, parent="x"))
    for done in (1, 1 << 20, (1 << 20) + 5, 1 << 21, 3_000_000):
        tick(done)
    assert [event.done for event in seen] == [1 << 20, 1 << 21, 3_000_000]
    assert seen[-1] == Progress("layer", Status.SAVING, 3_000_000, 3_000_000, parent="x")


def test_an_estimated_total_grows() -> None:
    seen: list[Progress] = []
    ticker(seen.append, Progress("layer", Status.PUSHING, total=10))(2 << 20)
    ticker(seen.append, Progress("layer", Status.PUSHING))(2 << 20)
    assert [event.total for event in seen] == [2 << 20, None]


def test_packed_bytes_are_counted_not_unpacked_ones() -> None:
    archive = gzip.compress(bytes(1 << 20))
    stream = open_decompressed(io.BytesIO(archive))
    seen: list[Progress] = []
    tick = ticker(seen.append, Progress("layer", Status.LOADING, total=len(archive)), stream)
    tick(5 << 20)
    assert not seen, "nothing was read"
    assert len(stream.read()) == 1 << 20
    tick(1 << 20)
    assert [(event.done, event.total) for event in seen] == [(len(archive), len(archive))]
