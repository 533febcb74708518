"""The events of a transfer."""

from __future__ import annotations

import pytest

from layerstore.registry.events import Event, Status, silent


@pytest.mark.parametrize("status", Status)
def test_a_status_is_in_dockers_words(status: Status) -> None:
    assert status.value[0].isupper() and status.value == status.value.strip()


def test_only_what_is_told_again_and_again_moves() -> None:
    moving = {status for status in Status if status.moves}
    assert moving == {Status.DOWNLOADING, Status.EXTRACTING, Status.PUSHING, Status.COPYING}
    silent(Event("a", "b", Status.PULLED))
