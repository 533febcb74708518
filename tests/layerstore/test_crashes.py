"""kill -9 before every change of every operation: what follows is the state before, or after.

The next opening puts right what was cut short, so that a check has nothing to
say, and what was committed is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from layerstore import Container, Store
from layerstore.errors import NoSuchImage
from layerstore.oci.reference import familiar
from layerstore.operations import gc
from layerstore.operations.check import check
from layerstore.operations.commit import commit as commit_container
from layerstore.volumes import VolumeUse
from tests.helpers.effort import examples
from tests.helpers.images import add_image, add_layer, config_of
from tests.helpers.mounts import require_root
from tests.layerstore.crashes import Work, count_changes, fail_at, kill_at, points

pytestmark = pytest.mark.slow


BASE, TOP, NEW = {"etc/motd": b"hello"}, {"etc/motd": b"bye", "d/e/f": b"x"}, {"new": b"1"}

# Each point takes a process; PYUNION_EXAMPLES=1000 tries every one of them.
MOST = examples(12)

UNNAMED = VolumeUse("f" * 64, "/u", named=False)

State = tuple[object, ...]


def prepare(store: Store) -> None:
    """Make what every scenario begins with: two images, a dangling one, three containers."""
    image = add_image(store, BASE, TOP, names=["x:1"])
    add_image(store, BASE, names=["base:1", "base:2"])
    dangling = add_image(store, BASE, TOP, {"dangling": b"1"}, parent=image.id)
    store.containers.create(image, name="box")
    write_upper(store, store.containers.create(image, name="full"))
    last = store.containers.create(dangling, name="last")
    write_upper(store, last)
    store.images.remove(dangling.id.encoded, force=True)
    store.containers.create(image, name="with", volumes=[VolumeUse("kept", "/k"), UNNAMED])
    store.volumes.create("loose")


def write_upper(store: Store, container: Container, name: str = "data") -> None:
    (container.upper / name).write_text(container.name)


def state(store: Store) -> State:
    """Return what people see: names, layers by image, containers with what they hold."""
    images = tuple(
        (image.id, tuple(familiar(tag) for tag in image.tags), len(store.layers.chain(image.top)))
        for image in store.images.all()
    )
    containers = tuple(
        (container.name, container.published, contents(store, container))
        for container in sorted(store.containers.list(), key=lambda c: c.name)
    )
    volumes = tuple(
        (volume.name, store.volumes.data(volume.name).is_dir()) for volume in store.volumes.list()
    )
    return images, containers, volumes


def contents(store: Store, container: Container) -> tuple[tuple[str, str], ...]:
    """Return the files one sees in a container."""
    seen: dict[str, str] = {}
    for tree in (container.upper, *store.containers.lowers(container)):
        for path in tree.rglob("*"):
            if path.is_file():
                seen.setdefault(str(path.relative_to(tree)), path.read_text())
    return tuple(sorted(seen.items()))


# -- what is done --


def load(store: Store) -> None:
    add_image(store, BASE, TOP, NEW, names=["new:1", "x:1"])


def load_without_a_lease(store: Store) -> None:
    layer = add_layer(store, None, NEW)
    store.images.add(config_of([layer.diff_id]).data)


def tag(store: Store) -> None:
    store.images.tag(store.images.resolve("base:1"), "x:1")


def remove(store: Store) -> None:
    store.images.remove("x:1", force=True)


def untag(store: Store) -> None:
    store.images.remove("base:2")


def create(store: Store) -> None:
    store.containers.create(store.images.resolve("x:1"), name="another")


def remove_container(store: Store) -> None:
    store.containers.remove(store.containers.resolve("last"))


def create_with_volumes(store: Store) -> None:
    uses = [VolumeUse("kept", "/k"), VolumeUse("new", "/n"), UNNAMED._replace(volume="e" * 64)]
    store.containers.create(store.images.resolve("x:1"), name="another", volumes=uses)


def remove_with_volumes(store: Store) -> None:
    store.containers.remove(store.containers.resolve("with"), volumes=True)


def create_volume(store: Store) -> None:
    store.volumes.create("new", {"a": "b"})


def remove_volume(store: Store) -> None:
    store.volumes.remove("loose")


def prune(store: Store) -> None:
    gc.prune_containers(store)
    gc.prune_images(store, all_unused=True)


def collect(store: Store) -> None:
    store.blobs.put(b"of nobody")
    gc.collect(store)


def commit(store: Store) -> None:
    """Commit a container that nobody has mounted."""
    commit_container(store, store.containers.resolve("full"), "committed")


class Scenario(NamedTuple):
    """`between` tells whether a state that is neither the first nor the last may be."""

    work: Work
    between: Callable[[State, State, State], bool] = lambda now, before, after: False
    litters: bool = False  # makes without a lease what it may then leave behind, harmless


def names_moved_one_by_one(now: State, before: State, after: State) -> bool:
    """Tags are given one by one: the image may be there with some of them."""
    return now[1] == after[1]


def removed_one_by_one(now: State, before: State, after: State) -> bool:
    """Containers are removed one by one, and the images after them."""
    return set(now[1]) <= set(before[1]) and (now[0] == before[0] or now[1] == after[1])  # type: ignore[call-overload]


SCENARIOS = {
    "load": Scenario(load, names_moved_one_by_one),
    "load without a lease": Scenario(load_without_a_lease, litters=True),
    "tag": Scenario(tag),
    "remove": Scenario(remove),
    "untag": Scenario(untag),
    "create": Scenario(create),
    "remove container": Scenario(remove_container),
    "create with volumes": Scenario(create_with_volumes),
    "remove with volumes": Scenario(remove_with_volumes),
    "create volume": Scenario(create_volume),
    "remove volume": Scenario(remove_volume),
    "prune": Scenario(prune, removed_one_by_one),
    "collect": Scenario(collect, litters=True),
}


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    root = tmp_path / "prepared"
    with Store.open(root, sync=False) as store:
        prepare(store)
        assert [str(finding) for finding in check(store)] == []
    return root


def copy(root: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(root, to, symlinks=True)
    return to


def look(root: Path, *, litters: bool = False) -> State:
    """Open the store, which recovers; see that it is sound; return its state."""
    with Store.open(root, sync=False, create=False) as store:
        findings = [finding for finding in check(store) if not (litters and finding.harmless)]
        assert [str(finding) for finding in findings] == []
        assert store.leases.all() == [] and os.listdir(store.staging.path) == []
        return state(store)


@pytest.mark.parametrize("name", SCENARIOS)
def test_operation_killed_at_any_change_happened_or_not(prepared: Path, name: str) -> None:
    scenario = SCENARIOS[name]
    before = look(prepared)
    done = copy(prepared, prepared.with_name("done"))
    count = count_changes(done, scenario.work)
    after = look(done)
    seen = set()
    for at in points(count, MOST):
        root = copy(prepared, prepared.with_name("killed"))
        kill_at(root, scenario.work, at)
        now = look(root, litters=scenario.litters)
        assert now in (before, after) or scenario.between(now, before, after), f"change {at}"
        seen.add(now)
    assert before in seen


@pytest.mark.parametrize("name", SCENARIOS)
def test_operation_whose_change_fails_happened_or_not(prepared: Path, name: str) -> None:
    scenario = SCENARIOS[name]
    before = look(prepared)
    done = copy(prepared, prepared.with_name("done"))
    count = count_changes(done, scenario.work)
    after = look(done)
    for at in points(count, MOST):
        root = copy(prepared, prepared.with_name("failed"))
        fail_at(root, scenario.work, at)
        now = look(root, litters=scenario.litters)
        assert now in (before, after) or scenario.between(now, before, after), f"change {at}"


def test_commit_killed_at_any_change_loses_nothing(prepared: Path) -> None:
    require_root()
    before = look(prepared)
    count = count_changes(copy(prepared, prepared.with_name("done")), commit)
    after = look(prepared.with_name("done"))
    assert before != after
    for at in points(count, 3 * MOST):
        root = copy(prepared, prepared.with_name("killed"))
        kill_at(root, commit, at)
        look(root)
        with Store.open(root, sync=False, create=False) as store:
            container = store.containers.resolve("full")
            assert dict(contents(store, container))["data"] == "full", f"change {at}"
            try:
                image = store.images.resolve("committed")
            except NoSuchImage:
                # What was cut short does not stand in the way of another attempt.
                commit(store)
                image = store.images.resolve("committed")
            top, *_ = store.layers.chain(image.top)
            assert (top.diff / "data").read_text() == "full", f"change {at}"
            container = store.containers.resolve("full")
            write_upper(store, container, "more")
            assert set(dict(contents(store, container))) >= {"data", "more", "etc/motd"}


def test_opening_killed_at_any_change_is_begun_again(prepared: Path) -> None:
    """The recovery of each operation, cut short itself."""
    require_root()
    for work in (load, remove, remove_container, commit):
        count = count_changes(copy(prepared, prepared.with_name("done")), work)
        broken = copy(prepared, prepared.with_name("broken"))
        kill_at(broken, work, count // 2)
        recovered = look(copy(broken, prepared.with_name("recovered")))
        changes = count_changes(copy(broken, prepared.with_name("counted")), None)
        assert changes > 0
        for at in points(changes, MOST):
            root = copy(broken, prepared.with_name("killed"))
            kill_at(root, None, at)
            assert look(root) == recovered, f"change {at}"
