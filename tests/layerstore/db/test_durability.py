"""What is published is synced first, and its name after; a store opened so does neither."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerstore import Store
from tests.helpers.faults import system_calls
from tests.helpers.images import add_image, add_layer


def order_of(root: Path, work: Callable[[Store], object], *, sync: bool) -> list[str]:
    """Return the renames and syncs that `work` makes, by what they are of."""
    made: list[str] = []

    def note(name: str, args: tuple[Any, ...]) -> None:
        if name == "rename":
            made.append(f"rename to {kind(Path(args[1]))}")
        elif name == "fsync":
            made.append(f"fsync {kind(Path(os.readlink(f'/proc/self/fd/{args[0]}')))}")

    def kind(path: Path) -> str:
        relative = path.relative_to(root)
        return relative.parts[0] if len(relative.parts) == 1 else f"{relative.parts[0]}/"

    with Store.open(root, sync=sync) as store, system_calls(note):
        work(store)
    return made


def put(store: Store) -> None:
    store.blobs.put(b"content")


def publish(store: Store) -> None:
    add_layer(store, None, {"f": b"x"})


def test_blob_is_synced_before_it_is_named_and_its_name_after(root: Path) -> None:
    assert order_of(root, put, sync=True) == ["fsync staging/", "rename to blobs/", "fsync blobs/"]


def test_layer_is_named_only_once_it_is_on_disk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []

    def syncfs(fd: int) -> None:
        synced.append(any((root / "layers").iterdir()))

    monkeypatch.setattr("unionfs.syscalls.syncfs.syncfs", syncfs)
    made = order_of(root, publish, sync=True)
    # What is there without a row is moved out of the way first.
    assert made == ["rename to staging/", "rename to layers/", "fsync layers"]
    assert synced == [False]


def test_container_is_named_only_once_it_is_on_disk(root: Path) -> None:
    with Store.open(root) as store:
        add_image(store, names=["x"])

    def create(store: Store) -> None:
        store.containers.create(store.images.resolve("x"))

    assert order_of(root, create, sync=True) == [
        "fsync staging/",
        "rename to containers/",
        "fsync containers",
    ]


def test_the_container_of_a_stage_is_not_waited_for(root: Path) -> None:
    """What a build has done is synced with its layers."""
    with Store.open(root) as store:
        add_image(store, names=["x"])

    def create(store: Store) -> None:
        image = store.images.resolve("x")
        store.containers.create_on(None, name="stage", image=image.id, image_name="", config={})

    assert order_of(root, create, sync=True) == ["rename to containers/"]


@pytest.mark.parametrize("work", [put, publish])
def test_safety_can_be_traded_away(root: Path, work: Callable[[Store], object]) -> None:
    assert [line for line in order_of(root, work, sync=False) if "sync" in line] == []


@pytest.mark.parametrize(("sync", "level"), [(True, 2), (False, 0)])
def test_database_is_as_safe_as_the_rest(root: Path, sync: bool, level: int) -> None:
    with Store.open(root, sync=sync) as store:
        assert store.database.read("PRAGMA synchronous") == [(level,)]
        assert store.database.read("PRAGMA journal_mode") == [("wal",)]
        assert store.database.read("PRAGMA foreign_keys") == [(1,)]
