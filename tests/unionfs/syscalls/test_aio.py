"""fsync(2) of several files at once."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.helpers.mounts import require_root
from tests.helpers.small_disks import small_disk
from tests.helpers.unions import errno_of
from unionfs.syscalls.aio import Syncs


@pytest.fixture
def syncs() -> Iterator[Syncs]:
    with closing(Syncs(4)) as syncs:
        yield syncs


def all_ended(syncs: Syncs, count: int) -> dict[int, int]:
    """Wait for `count` of them; return the errno of each by its number."""
    found: dict[int, int] = {}
    while len(found) < count:
        found.update(syncs.ended(1))
    return found


def test_what_has_ended_is_on_the_disk(tmp_path: Path) -> None:
    require_root()
    with small_disk(tmp_path, "ext4", 8 << 20) as top, closing(Syncs(4)) as syncs:
        data = {number: os.urandom(16_384) for number in range(1, 4)}
        with ExitStack() as files:
            begun: list[tuple[int, int]] = []
            for number, content in data.items():
                file = files.enter_context((top / str(number)).open("wb", buffering=0))
                file.write(content)
                begun.append((file.fileno(), number))
            assert syncs.begin(begun) == 3
        assert all_ended(syncs, 3) == dict.fromkeys(data, 0)
        image = (tmp_path / "image").read_bytes()
        assert all(content[:4096] in image for content in data.values())


def test_each_end_is_returned_once(syncs: Syncs, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        syncs.begin([(file.fileno(), 7)])
        assert all_ended(syncs, 1) == {7: 0}
        assert syncs.ended(0) == []


def test_a_file_that_cannot_be_synced_is_an_error(syncs: Syncs, tmp_path: Path) -> None:
    assert errno_of(lambda: syncs.begin([(-1, 1)])) == errno.EBADF
    with open("/dev/null", "wb") as null:
        assert errno_of(lambda: syncs.begin([(null.fileno(), 2)])) == errno.EINVAL
    assert syncs.ended(0) == []


def test_too_many_are_eagain_until_their_ends_are_taken(syncs: Syncs, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        begun = 0
        with pytest.raises(BlockingIOError):
            for begun in range(1, 100_000):
                syncs.begin([(file.fileno(), begun)])
        assert set(all_ended(syncs, begun - 1)) == set(range(1, begun))
        syncs.begin([(file.fileno(), begun)])


def test_those_before_one_that_cannot_be_synced_begin(syncs: Syncs, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        assert syncs.begin([(file.fileno(), 1), (file.fileno(), 2), (-1, 3)]) == 2
        assert all_ended(syncs, 2) == {1: 0, 2: 0}


def test_close_waits_for_those_under_way(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(b"data")
        syncs = Syncs(4)
        syncs.begin([(file.fileno(), 1)])
    syncs.close()
    assert errno_of(lambda: syncs.ended(0)) == errno.EINVAL
