"""Volumes: made once, kept while a container has them, filled whole or not yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore import Container, Store
from layerstore.errors import Conflict, InvalidReference, NoSuchVolume, StoreError
from layerstore.operations.check import check
from layerstore.operations.gc import Which, prune, prune_volumes
from layerstore.operations.repair import repair
from layerstore.volumes import DATA, ENTRIES, FILLING, VolumeUse, anonymous_name, checked_name
from tests.helpers.images import add_image


def container(store: Store, *uses: VolumeUse, name: str = "box") -> Container:
    image = add_image(store, {"f": b"x"})
    return store.containers.create(image, name=name, volumes=uses)


def found(store: Store) -> list[str]:
    return [str(finding) for finding in check(store)]


def test_a_volume_is_made_once(store: Store) -> None:
    made = store.volumes.create("data", {"a": "b"})
    assert (made.name, made.labels) == ("data", {"a": "b"})
    assert store.volumes.create("data", {"other": "x"}) == made
    assert store.volumes.data("data").stat().st_mode & 0o7777 == 0o755
    assert store.volumes.directory("data").stat().st_mode & 0o7777 == 0o700
    other = store.volumes.create()
    assert len(other.name) == 64 and other.labels == {}
    assert store.volumes.list() == sorted([made, other], key=lambda one: one.name)
    with pytest.raises(NoSuchVolume, match=r"^No such volume: nope$"):
        store.volumes.get("nope")


@pytest.mark.parametrize("name", ["", "a", ".a", "-a", "_a", "a b", "a/b", "..", "ä" * 2, "a\n"])
def test_names_that_no_volume_has(store: Store, name: str) -> None:
    with pytest.raises(InvalidReference, match=r"at least two|includes invalid characters"):
        store.volumes.create(name)
    assert store.volumes.list() == []


def test_the_longest_name(store: Store) -> None:
    store.volumes.create("a" * 255)
    with pytest.raises(InvalidReference, match="longer than 255 bytes"):
        checked_name("a" * 256)


def test_containers_make_what_they_use_and_keep_it(store: Store) -> None:
    box = container(store, VolumeUse("data", "/d"), VolumeUse("more", "/m", read_only=True))
    assert store.volumes.get("data").labels is None
    assert store.volumes.uses_of(box.id) == [
        VolumeUse("data", "/d"),
        VolumeUse("more", "/m", read_only=True),
    ]
    with pytest.raises(Conflict) as refused:
        store.volumes.remove("data")
    assert str(refused.value) == f"remove data: volume is in use - [{box.id}]"
    store.containers.remove(box, volumes=True)
    assert store.volumes.data("data").is_dir()
    store.volumes.remove("data")
    assert not store.volumes.directory("data").exists()
    with pytest.raises(NoSuchVolume):
        store.volumes.remove("data")
    assert found(store) == []


def test_two_mounts_of_one_target_make_nothing(store: Store) -> None:
    with pytest.raises(Conflict, match=r"^Duplicate mount point: /d$"):
        container(store, VolumeUse("data", "/d"), VolumeUse("other", "/d"))
    assert (store.volumes.list(), store.containers.list()) == ([], [])
    assert os.listdir(store.volumes.path) == []


def test_volumes_without_a_name_go_with_the_last_container(store: Store) -> None:
    name = anonymous_name()
    unnamed = VolumeUse(name, "/d", named=False)
    one, two = container(store, unnamed), container(store, unnamed, name="other")
    store.containers.remove(one, volumes=True)
    assert store.volumes.data(name).is_dir(), "another container has it"
    store.containers.remove(two)
    assert store.volumes.data(name).is_dir(), "nobody said volumes"
    three = container(store, unnamed)
    store.containers.remove(three, volumes=True)
    assert store.volumes.list() == [] and os.listdir(store.volumes.path) == []


def test_rm_removes_the_unnamed_volumes_of_a_container_of_its_own(store: Store) -> None:
    image = add_image(store, {"f": b"x"})
    uses = [VolumeUse(anonymous_name(), "/d", named=False), VolumeUse("kept", "/k")]
    box = store.containers.create(image, auto_remove=True, volumes=uses)
    store.containers.remove(box)
    assert [volume.name for volume in store.volumes.list()] == ["kept"]


def test_prune_removes_what_no_container_has(store: Store) -> None:
    box = container(store, VolumeUse("used", "/d"))
    store.volumes.create("old", {"keep": "no"})
    (store.volumes.data("old") / "file").write_bytes(b"12345")
    store.volumes.create("kept", {"keep": "yes"})
    but_kept = Which(without=(("keep", "yes"),))
    dry = prune_volumes(store, but_kept, dry_run=True)
    assert (dry.volumes, dry.freed) == (["old"], 5)
    assert prune_volumes(store, but_kept) == dry
    assert prune_volumes(store, Which(labels=(("keep", "no"),))).volumes == []
    assert prune(store).volumes == []
    assert [one.name for one in store.volumes.list()] == ["kept", "used"]
    assert not store.containers.exists(box.id)
    assert prune(store, volumes=True).volumes == ["kept", "used"]


def test_check_tells_of_a_lost_directory_and_makes_another(store: Store) -> None:
    store.volumes.create("data")
    store.volumes.data("data").rmdir()
    assert found(store) == ["volume data has lost its directory"]
    (finding,) = repair(store)
    assert str(finding) == "volume data has lost its directory (made an empty one)"
    assert found(store) == [] and store.volumes.data("data").is_dir()
    store.volumes.data("data").rmdir()
    store.volumes.directory("data").rmdir()
    with pytest.raises(StoreError, match="has lost its directory"), store.volumes.lock("data"):
        pass
    repair(store)
    assert found(store) == []


def test_check_tells_of_a_directory_without_a_row(store: Store) -> None:
    store.volumes.create("data")
    (store.volumes.path / "stray" / DATA).mkdir(parents=True)
    assert found(store) == ["volumes/stray belongs to no volume"]
    with pytest.raises(StoreError, match="belongs to no volume"):
        store.volumes.create("stray")
    assert (store.volumes.path / "stray" / DATA).is_dir()
    repair(store)
    assert found(store) == []
    store.volumes.create("stray")


def entries(content: Path, *names: str) -> None:
    for name in names:
        (content / ENTRIES / name).write_text(name)
    content.chmod(0o1777)
    os.utime(content, ns=(10**9, 2 * 10**9))


def test_the_first_content_is_moved_in_with_its_attributes(store: Store) -> None:
    store.volumes.create("data")
    with store.volumes.lock("data") as fd:
        assert store.volumes.is_empty(fd)
        with store.volumes.content() as content:
            entries(content, "a", "b")
            store.volumes.fill(fd, content)
        assert not store.volumes.is_empty(fd) and not store.volumes.settle(fd)
    data = store.volumes.data("data")
    assert sorted(os.listdir(data)) == ["a", "b"]
    assert data.stat().st_mode & 0o7777 == 0o1777 and data.stat().st_mtime_ns == 2 * 10**9
    assert os.listdir(store.volumes.directory("data")) == [DATA]


def test_what_was_moved_in_by_half_is_completed(store: Store) -> None:
    store.volumes.create("data")
    filling = store.volumes.directory("data") / FILLING
    (filling / ENTRIES).mkdir(parents=True)
    entries(filling, "a", "b", "c")
    data = store.volumes.data("data")
    os.rename(filling / ENTRIES / "a", data / "a")
    (data / "b").write_text("of a container")
    (finding,) = check(store)
    assert finding.harmless and "has only a part of its image's files yet" in str(finding)
    with store.volumes.lock("data"):
        assert check(store) == [], "somebody is at it"
    (finding,) = repair(store)
    assert str(finding.repair) == "moved the rest in"
    assert {path.name: path.read_text() for path in data.iterdir()} == {
        "a": "a",
        "b": "of a container",
        "c": "c",
    }
    assert found(store) == []
