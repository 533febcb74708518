"""Many processes on one store: no update is lost, nobody waits for ever or sees a busy database."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.errors import Conflict, NotFound
from layerstore.oci.reference import familiar
from layerstore.operations import gc
from layerstore.operations.check import check
from tests.helpers import children
from tests.helpers.images import add_image, add_layer, config_of, diff_id

pytestmark = pytest.mark.slow


BASE = {"base": b"1"}
WORKERS = 6
ROUNDS = 25


@pytest.fixture
def shared(root: Path) -> Path:
    with Store.open(root, sync=False) as store:
        add_image(store, BASE, names=["base"])
    return root


def at_once(root: Path, *work: Callable[[Store, int], object]) -> None:
    """Run each `work` in a process of its own, all beginning together; each must succeed."""
    reading, writing = os.pipe()

    def run(number: int, one: Callable[[Store, int], object]) -> Callable[[], None]:
        def work() -> None:
            os.close(writing)
            os.read(reading, 1)  # until the parent lets all go
            with Store.open(root, sync=False) as store:
                one(store, number)

        return work

    pids = [children.spawn(run(number, one)) for number, one in enumerate(work)]
    os.close(writing)
    os.close(reading)
    assert [children.wait(pid) for pid in pids] == [0] * len(work)


def sound(root: Path) -> None:
    with Store.open(root, sync=False) as store:
        assert [str(finding) for finding in check(store)] == []
        assert store.leases.all() == [] and os.listdir(store.staging.path) == []


def test_no_tag_is_lost(shared: Path) -> None:
    def work(store: Store, number: int) -> None:
        image = store.images.resolve("base")
        for turn in range(ROUNDS):
            store.images.tag(image, f"w{number}:{turn}")

    at_once(shared, *[work] * WORKERS)
    with Store.open(shared, sync=False) as store:
        assert len(store.images.resolve("base").tags) == WORKERS * ROUNDS + 1
    sound(shared)


def test_one_of_those_that_want_a_name_gets_it(shared: Path) -> None:
    def work(store: Store, number: int) -> None:
        image = store.images.resolve("base")
        for turn in range(ROUNDS):
            try:
                store.containers.create(image, name=f"c{turn}")
            except Conflict:
                continue

    at_once(shared, *[work] * WORKERS)
    with Store.open(shared, sync=False) as store:
        assert len(store.containers.list()) == ROUNDS
    sound(shared)


def test_same_layers_loaded_by_many_are_held_once(shared: Path) -> None:
    def work(store: Store, number: int) -> None:
        for turn in range(ROUNDS // 4):
            add_image(store, BASE, {f"l{turn}": b"x"}, names=[f"l{turn}:w{number}"])

    at_once(shared, *[work] * WORKERS)
    with Store.open(shared, sync=False) as store:
        for turn in range(ROUNDS // 4):
            assert len(store.images.resolve(f"l{turn}:w0").tags) == WORKERS
        assert len(os.listdir(shared / "layers")) == 1 + ROUNDS // 4
    sound(shared)


def test_loading_removing_collecting_and_containers_at_once(shared: Path) -> None:
    """Each does what it can; what it is told is docker's word, and never the database's."""

    def load(store: Store, number: int) -> None:
        for turn in range(ROUNDS):
            add_image(store, BASE, {f"l{turn % 3}": b"x"}, names=[f"l{turn % 3}:{number}"])

    def remove(store: Store, number: int) -> None:
        for turn in range(ROUNDS * 2):
            for image in store.images.all():
                for name in map(familiar, image.tags):
                    if name.startswith(f"l{turn % 3}"):
                        try:
                            store.images.remove(name)
                        except (NotFound, Conflict):
                            continue

    def collect(store: Store, number: int) -> None:
        for _ in range(ROUNDS):
            gc.prune_images(store)
            gc.collect(store)

    def containers(store: Store, number: int) -> None:
        for turn in range(ROUNDS):
            try:
                image = store.images.resolve(f"l{turn % 3}:0")
                container = store.containers.create(image)
            except NotFound:
                continue
            assert len(store.containers.lowers(container)) == 2
            store.containers.remove(container)

    at_once(shared, load, load, remove, collect, containers, containers)
    sound(shared)


def test_check_of_a_store_at_work_finds_nothing(shared: Path) -> None:
    def work(store: Store, number: int) -> None:
        for turn in range(ROUNDS):
            image = add_image(store, BASE, {f"w{number}": b"%d" % turn}, names=[f"w{number}"])
            container = store.containers.create(image)
            store.containers.remove(container)
            store.images.remove(f"w{number}")

    def look(store: Store, number: int) -> None:
        for _ in range(ROUNDS):
            assert [str(finding) for finding in check(store)] == []

    at_once(shared, work, work, work, look, look)
    sound(shared)


def test_found_layer_stays_for_the_work_that_found_it(shared: Path) -> None:
    """A load that builds on a layer which a removal takes away meanwhile."""

    def build(store: Store, number: int) -> None:
        for turn in range(ROUNDS):
            with store.leases.lease("work", "load"):
                if store.layers.need(diff_id(BASE)) is None:
                    add_layer(store, None, BASE)
                top = {f"w{number}": b"%d" % turn}
                add_layer(store, diff_id(BASE), top)
                image = store.images.add(config_of([diff_id(BASE), diff_id(top)]).data)
            try:
                store.images.remove(image.id.encoded)
            except NotFound:
                continue

    with Store.open(shared, sync=False) as store:
        store.images.remove("base")
    at_once(shared, *[build] * 4)
    sound(shared)
    assert os.listdir(shared / "layers") == []


def test_killed_at_random_while_others_work(shared: Path) -> None:
    """Processes are killed at any time: finished work stays, and the others go on."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            random.seed(seed + number)
            turn = 0
            while True:
                with Store.open(shared, sync=False) as store:
                    turn += 1
                    name = f"w{number}:{turn % 3}"
                    add_image(store, BASE, {f"w{number}": b"%d" % (turn % 3)}, names=[name])
                    container = store.containers.create(store.images.resolve(name))
                    if turn % 2:
                        store.containers.remove(container)
                    store.images.remove(name, force=turn % 4 == 1)

        return run

    for round_ in range(8):
        pids = [children.spawn(work(round_ * 10 + number)) for number in range(4)]
        for pid in pids:
            time.sleep(chance.random() * 0.15)  # the fault is when, not what is waited for
            os.kill(pid, signal.SIGKILL)
            assert children.wait(pid) in (-signal.SIGKILL, children.FAILED)
        sound(shared)
    with Store.open(shared, sync=False) as store:
        assert store.images.resolve("base").size == 1
