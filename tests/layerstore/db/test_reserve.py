"""A full disk: a clear error, nothing half published, and still a way to make room."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.db.reserve import ADVICE, SIZE, Reserve
from layerstore.errors import DiskFull, StoreError
from layerstore.operations.check import check
from tests.helpers.images import add_image, add_layer
from tests.helpers.mounts import require_root
from tests.helpers.small_disks import fill, small_disk

BASE, OTHER, NEW = {"a": b"x" * 100_000}, {"b": b"y" * 300_000}, {"c": b"z" * 600_000}


@pytest.fixture(params=["tmpfs", "ext4"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A store with two images on a filesystem of 12 MiB."""
    require_root()
    with small_disk(tmp_path, request.param, 12 << 20, 1024) as top:
        with Store.open(top / "store") as store:
            add_image(store, BASE, names=["base"])
            add_image(store, BASE, OTHER, names=["other"])
        assert (top / "store" / "reserve").stat().st_blocks * 512 >= SIZE
        yield top / "store"


OPERATIONS: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.blobs.put(b"q" * 700_000),
    "publish": lambda store: add_layer(store, None, NEW),
    "load": lambda store: add_image(store, BASE, NEW, names=["new"]),
    "create": lambda store: store.containers.create(store.images.resolve("base")),
}


@pytest.mark.parametrize("left", [0, 40 << 10, 180 << 10, 540 << 10, 600 << 10, 720 << 10])
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_does_not_fit_leaves_no_trace(small: Path, name: str, left: int) -> None:
    filler = fill(small.parent, left)
    try:
        with Store.open(small) as store, store.leases.lease("work", "test"):
            OPERATIONS[name](store)
        failed = ""
    except StoreError as error:
        failed = str(error)
    assert not failed or "no space left" in failed.lower()
    filler.unlink()
    with Store.open(small) as store:
        findings = [finding for finding in check(store) if failed or not finding.harmless]
        assert [str(finding) for finding in findings] == []
        names = {"base", "other"} | ({"new"} if name == "load" and not failed else set())
        assert {image.tags[0].path.split("/")[-1] for image in store.images.all()} == names


def test_full_disk_can_be_looked_at_and_made_emptier(small: Path) -> None:
    filler = fill(small.parent, 0)
    with Store.open(small) as store:
        assert len(store.images.list()) == 2
        with pytest.raises(StoreError, match="`pyunion prune` and `pyunion rmi` make room"):
            store.blobs.put(b"x")
        assert len(store.images.remove("other")) == 3
    filler.unlink()
    with Store.open(small) as store:
        store.blobs.put(b"x")
    assert (small / "reserve").exists()


def test_full_disk_that_stays_full_can_be_opened_again(small: Path) -> None:
    fill(small.parent, 0)
    for _ in range(3):
        with Store.open(small) as store:
            assert len(store.images.list()) == 2
            with pytest.raises(StoreError, match="No space left"):
                store.containers.create(store.images.resolve("base"))


def test_other_errors_are_passed_on(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    with pytest.raises(ConnectionResetError), reserve.growing():
        raise ConnectionResetError
    assert not reserve.give_up(), "the disk is not full"


def test_what_failed_is_done_again_if_another_process_has_made_room(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    reserve.settle()
    outcomes: list[StoreError] = [DiskFull("full")]

    def work() -> str:
        if outcomes:
            raise outcomes.pop()
        return "done"

    assert reserve.with_room(work) == "done"
    assert (tmp_path / "reserve").exists(), "there was room, so it stays"
    outcomes.append(StoreError("something else"))
    with pytest.raises(StoreError, match="something else"):
        reserve.with_room(work)


def test_the_advice_is_in_the_first_line(tmp_path: Path) -> None:
    """The next lines may show a command of the user's."""
    with pytest.raises(DiskFull) as caught, Reserve(tmp_path).growing():
        raise StoreError("step 2/3 failed\n  RUN true") from OSError(errno.ENOSPC, "full")
    assert str(caught.value).splitlines() == [f"step 2/3 failed; {ADVICE}", "  RUN true"]
