"""The events of a transfer."""

from __future__ import annotations

import pytest

from layerstore.registry.events import Event, Status, silent, ticker


@pytest.mark.parametrize("status", Status)
def test_a_status_is_in_dockers_words(status: Status) -> None:
    assert status.value[0].isupper() and status.value == status.value.strip()


def test_only_what_is_told_again_and_again_moves() -> None:
    moving = {status for status in Status if status.moves}
    assert moving == {Status.DOWNLOADING, Status.EXTRACTING, Status.PUSHING, Status.COPYING}
    silent(Event("a", "b", Status.PULLED))


def test_bytes_are_told_now_and_then_and_at_the_end() -> None:
    told: list[int] = []
    tick = ticker(told.append, 3_000_000)
    for done in (1, 1 << 20, (1 << 20) + 5, 1 << 21, 3_000_000):
        tick(done)
    assert told == [1 << 20, 1 << 21, 3_000_000]
