"""Pulls and pushes that are cut off: by a kill, by a full disk, by a registry that lies.

Whatever happens, the store is sound, nothing half of an image is in it, and the next try
succeeds.  PYUNION_EXAMPLES=100 tries a hundred moments.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.errors import DiskFull, StoreError
from layerstore.oci.reference import Reference
from layerstore.operations.check import check
from layerstore.operations.rootfs import import_image
from layerstore.progress import Progress, Status
from layerstore.registry.pull import pull_image
from layerstore.registry.push import push_image
from layerstore.registry.transfer import Transfer
from mount_tools.cli.output.progress_lines import line_of
from tests.helpers import children
from tests.helpers.effort import examples
from tests.helpers.hostile_registry import (
    Behaviour,
    Exchange,
    HostileRegistry,
    always,
    another_range,
    dropped,
    endless,
    in_chunks,
    other_content,
    redirected,
    truncated,
)
from tests.helpers.mounts import DEADLINE, require_root, wait_until
from tests.helpers.processes import ending
from tests.helpers.registries import LAYERS, REPOSITORY, MemoryRegistry, plain_layer
from tests.helpers.registry_server import RegistryServer
from tests.helpers.small_disks import fill, small_disk
from tests.layerstore.crashes import EndedBefore, count_changes, fail_at, kill_at, points
from tests.layerstore.registry.clients import opened

pytestmark = pytest.mark.slow


NAME = Reference(REPOSITORY, "latest")
KILLS = examples(3)
MOST = max(KILLS, 12)  # changes before which a process dies


def sound(root: Path) -> set[str]:
    """Open the store, which recovers, and check it; return the names of its images."""
    with Store.open(root, sync=False) as store:
        assert [str(finding) for finding in check(store)] == []
        assert store.leases.all() == [] and os.listdir(store.staging.path) == []
        images = store.images.all()
        if not images:
            assert store.layers.all() == [] and list(store.blobs.all()) == []
        return {str(tag) for image in images for tag in image.tags}


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


# -- kill -9, before each change --


@pytest.mark.parametrize("strike", [kill_at, fail_at], ids=["killed", "failing"])
def test_a_pull_that_ends_before_any_change_goes_on_later(
    registry: MemoryRegistry, tmp_path: Path, strike: Callable[..., None]
) -> None:
    registry.image(*LAYERS[:2])

    def work(store: Store) -> None:
        pull_image(store, registry, NAME)

    count = count_changes(tmp_path / "counted", work)
    assert count > 30
    for at in points(count, MOST):
        root = tmp_path / f"at{at}"
        with suppress(EndedBefore):  # threads may save a change, and end before it
            strike(root, work, at)
        assert sound(root) <= {str(NAME)}
        with Store.open(root, sync=False) as store:
            work(store)
            assert store.partial.all() == []
        assert sound(root) == {str(NAME)}


def test_a_push_that_is_killed_before_any_change_goes_on_later(
    registry: MemoryRegistry, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("content")

    def prepared(root: Path) -> None:
        with Store.open(root, sync=False) as store:
            store.images.tag(import_image(store, tmp_path / "tree"), NAME)

    def work(store: Store) -> None:
        push_image(store, registry, NAME)

    prepared(tmp_path / "counted")
    for at in points(count_changes(tmp_path / "counted", work), MOST):
        root = tmp_path / f"at{at}"
        prepared(root)
        kill_at(root, work, at)
        assert sound(root) == {str(NAME)}
        with Store.open(root, sync=False) as store:
            work(store)
        assert sound(root) == {str(NAME)}


# -- kill -9 at random moments, with a real registry --


@pytest.fixture
def served(registry_server: RegistryServer, tmp_path: Path) -> str:
    """The name of an image of five layers in a real registry."""
    name = f"{registry_server.host}/{registry_server.name()}:1"
    repository, _, tag = name.rpartition(":")
    memory = MemoryRegistry(repository)
    memory.image(*[plain_layer(n, 2 << 20) for n in range(5)], tags=(tag,))
    with Store.open(tmp_path / "maker", sync=False) as store, opened(tmp_path) as client:
        pull_image(store, memory, Reference(repository, tag))
        push_image(store, client.repository(Reference(repository, tag)), Reference(repository, tag))
    return name


def pyunion(root: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "mount_tools.pyunion", "--root", str(root), "--no-sync", *words]


def killed(words: list[str], moments: tuple[float, float]) -> bool:
    """Run a command, and kill it at a random moment; tell whether it was still running."""
    with ending(subprocess.Popen(words, stdout=subprocess.DEVNULL)) as process:
        try:
            assert process.wait(random.uniform(*moments)) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
    return False


def seconds(words: list[str]) -> float:
    """Run a command that has to succeed; return how long it takes."""
    began = time.monotonic()
    subprocess.run(words, check=True, timeout=DEADLINE, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def test_a_pull_killed_at_random_moments_succeeds_the_next_time(
    served: str, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    whole = seconds(pyunion(tmp_path / "whole", "pull", "-q", served))
    kills = 0
    while kills < KILLS:
        if not killed(pyunion(root, "pull", "-q", served), (0.1, whole)):
            whole *= 0.9  # it was faster than the first
        kills += 1
        assert sound(root) <= {served}
        if random.random() < 0.5:
            continue  # the next one is killed too, where this one left off
        seconds(pyunion(root, "pull", "-q", served))
        assert sound(root) == {served}
        subprocess.run(pyunion(root, "rmi", served), check=True, stdout=subprocess.DEVNULL)
    seconds(pyunion(root, "pull", "-q", served))
    assert sound(root) == {served}


def test_a_push_killed_at_random_moments_succeeds_the_next_time(
    registry_server: RegistryServer, tmp_path: Path
) -> None:
    tree, root = tmp_path / "tree", tmp_path / "store"
    tree.mkdir()
    repository = f"{registry_server.host}/{registry_server.name()}"
    whole = 1.0
    for number in range(KILLS):
        name = f"{repository}:{number}"
        (tree / "file").write_bytes(os.urandom(24 << 20))
        with Store.open(root, sync=False) as store:
            image = import_image(store, tree)
            store.images.tag(image, name)
        if not killed(pyunion(root, "push", "-q", name), (0.1, whole)):
            whole *= 0.9
        assert sound(root) == {name}
        seconds(pyunion(root, "push", "-q", name))
        assert sound(root) == {name}
        with (
            opened(tmp_path) as client,
            Store.open(tmp_path / "other", sync=False) as other,
        ):
            reference = Reference(repository, str(number))
            assert pull_image(other, client.repository(reference), reference).image == image.id
            other.images.remove(name)
        with Store.open(root, sync=False) as store:
            store.images.remove(name)
        assert sound(root) == set()


# -- a full disk --


@pytest.mark.parametrize("left", [600 << 10, 1200 << 10, 2 << 20])
def test_a_pull_on_a_full_disk_leaves_nothing(
    registry: MemoryRegistry, tmp_path: Path, left: int
) -> None:
    require_root()
    registry.image(*[plain_layer(n, 1 << 20) for n in range(4)], pack=bytes)
    with small_disk(tmp_path, "tmpfs", 24 << 20, inodes=1000) as small:
        Store.open(small / "store", sync=False).close()
        filler = fill(small, left)

        def fails() -> None:
            with Store.open(small / "store", sync=False) as store:
                with pytest.raises(DiskFull, match="prune"):
                    pull_image(store, registry, NAME)
                assert store.partial.all() == []

        children.run(fails)  # a lease that a full disk keeps ends with its process
        assert sound(small / "store") == set()
        filler.unlink()
        with Store.open(small / "store", sync=False) as store:
            pull_image(store, registry, NAME)
        assert sound(small / "store") == {str(NAME)}


# -- a registry that lies, through the whole client --


@contextmanager
def lying(tmp_path: Path) -> Iterator[tuple[HostileRegistry, Reference]]:
    """Run a registry with an image, which the test then lets lie."""
    memory = MemoryRegistry()
    kept = memory.image(*[plain_layer(n, 300_000) for n in range(3)], pack=bytes)
    with HostileRegistry.running() as registry:
        for data in memory.blobs.values():
            registry.add_blob(data)
        registry.add_manifest("latest", kept.data, kept.media_type)
        yield registry, Reference(f"{registry.host}/team/app", "latest")


def index_in_circles(exchange: Exchange) -> bool:
    """Answer with an index whose entry, by its digest, is the same index again."""
    if not exchange.is_manifest:
        return False
    kind = "application/vnd.oci.image.index.v1+json"
    platform = {"os": "linux", "architecture": "amd64"}
    entry = {"mediaType": kind, "digest": f"sha256:{'0' * 64}", "size": 1, "platform": platform}
    document = {"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}
    return exchange.reply(200, json.dumps(document).encode(), {"Content-Type": kind})


def zeroed(exchange: Exchange) -> bool:
    """Send as many bytes as a blob has, but others."""
    data = exchange.registry.blobs.get(exchange.route.rpartition("/")[2], b"")
    return exchange.is_blob and exchange.reply(200, bytes(len(data)))


def of_a_layer(behaviour: Behaviour) -> Behaviour:
    """Let the configuration, which is small, come honestly."""

    def behave(exchange: Exchange) -> bool:
        digest = exchange.route.rpartition("/")[2]
        return len(exchange.registry.blobs.get(digest, b"")) > 1000 and behaviour(exchange)

    return behave


OF_BLOBS: dict[str, Behaviour] = {
    "other content": zeroed,
    "too short": other_content(b"x"),
    "too long": other_content(b"x" * 10_000_000),
    "encoded anew": in_chunks(encoding="gzip"),
    "without end": endless("/blobs/"),
    "always cut off": truncated(1000),
    "an error for each blob": always(500, "/blobs/"),
    "no such blob": always(404, "/blobs/"),
    "denied": always(403, "/blobs/"),
    "a redirect to a file": redirected("/blobs/", "file:///etc/passwd"),
}
LIES: dict[str, Behaviour] = {
    "in chunks that are too long": in_chunks(b"more"),
    "redirects in circles": redirected("/blobs/", "/v2/team/app/blobs/sha256:" + "0" * 64),
    **{f"a configuration, {lie}": behaviour for lie, behaviour in OF_BLOBS.items()},
    **{f"a layer, {lie}": of_a_layer(behaviour) for lie, behaviour in OF_BLOBS.items()},
    "no manifest": always(404, "/manifests/"),
    "a login without end": always(401, "/manifests/"),
    "no JSON": always(200, "/manifests/", b"{"),
    "another document": always(200, "/manifests/", b"[]"),
    "an index in circles": index_in_circles,
    "a huge manifest": always(200, "/manifests/", b" " * (9 << 20)),
}
# What to do: one of these is in each error.
ADVICE = ("try", "later", "again", "login", "not found", "repaired", "must")


@pytest.mark.parametrize("lie", LIES)
def test_a_registry_that_lies_gets_one_sentence_and_leaves_nothing(
    tmp_path: Path, lie: str
) -> None:
    with lying(tmp_path) as (registry, name), opened(tmp_path) as client:
        registry.behave(LIES[lie])
        with (
            Store.open(tmp_path / "store", sync=False) as store,
            pytest.raises(StoreError) as why,
        ):
            pull_image(store, client.repository(name), name)
        text = str(why.value)
        assert "\n" not in text and len(text) < 500 and registry.host in text
        assert any(word in text for word in ADVICE), text
        assert sound(tmp_path / "store") == set()
        registry.behave()
    with lying(tmp_path) as (registry, name), opened(tmp_path) as client:
        with Store.open(tmp_path / "store", sync=False) as store:
            pull_image(store, client.repository(name), name)
        assert sound(tmp_path / "store") == {str(name)}


@pytest.mark.parametrize(
    "fault",
    [
        truncated(120_000),
        truncated(70_000, ranges=False, times=3),
        another_range(0),
        dropped("GET", "/blobs/", times=3),
        always(500, "/blobs/", times=2),
        always(429, "/manifests/", times=1),
    ],
    ids=["cut off", "cut off without ranges", "another range", "dropped", "500", "429"],
)
def test_a_fault_that_passes_is_not_noticed(tmp_path: Path, fault: object) -> None:
    with lying(tmp_path) as (registry, name), opened(tmp_path) as client:
        registry.behave(fault)  # type: ignore[arg-type]
        with Store.open(tmp_path / "store", sync=False) as store:
            pull_image(store, client.repository(name), name)
        assert sound(tmp_path / "store") == {str(name)}


def test_a_wait_for_another_try_is_told(tmp_path: Path) -> None:
    events: list[Progress] = []
    with lying(tmp_path) as (registry, name), opened(tmp_path) as client:
        registry.behave(truncated(120_000, times=2))  # the first is the configuration
        with Store.open(tmp_path / "store", sync=False) as store:
            pull_image(store, client.repository(name), name, transfer=Transfer(events.append))
    assert [line_of(event)[14:] for event in events if event.status is Status.RETRYING] == [
        "Retrying in 1 seconds"
    ]


def test_a_pull_that_was_killed_asks_for_the_rest(tmp_path: Path) -> None:
    """Another process goes on where the first one was when it got SIGKILL."""
    came = 192 << 10  # of buffers of 64 KiB, or of 64 and 128

    def stalls(exchange: Exchange) -> bool:
        if not exchange.is_blob or exchange.route.rpartition(":")[2] not in layers:
            return False
        data = exchange.registry.blobs[exchange.route.rpartition("/")[2]]
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        exchange.raw(head + data[:came])
        return exchange.registry.over.wait(DEADLINE)

    with lying(tmp_path) as (registry, name):
        manifest = json.loads(registry.manifests["latest"][0])
        layers = [layer["digest"].partition(":")[2] for layer in manifest["layers"]]
        registry.behave(stalls)
        partial = [tmp_path / "store/partial" / layer for layer in layers]
        with ending(subprocess.Popen(pyunion(tmp_path / "store", "pull", "-q", str(name)))) as one:
            wait_until(
                lambda: all(path.exists() and path.stat().st_size == came for path in partial),
                "the first bytes of each layer",
            )
            one.send_signal(signal.SIGKILL)
            one.wait()
        assert sound(tmp_path / "store") == set()
        registry.behave()
        registry.requests.clear()
        seconds(pyunion(tmp_path / "store", "pull", "-q", str(name)))
        ranges = {
            path.rpartition(":")[2]: headers["Range"]
            for _, path, headers in registry.requests
            if "Range" in headers
        }
        assert ranges == dict.fromkeys(layers, f"bytes={came}-")
        assert sound(tmp_path / "store") == {str(name)}


def test_what_was_good_is_not_fetched_again(tmp_path: Path) -> None:
    with lying(tmp_path) as (registry, name), opened(tmp_path) as client:
        manifest = json.loads(registry.manifests["latest"][0])
        bad = manifest["layers"][2]["digest"]
        good = [layer["digest"] for layer in manifest["layers"][:2]]
        registry.behave(always(404, bad))
        with Store.open(tmp_path / "store", sync=False) as store, pytest.raises(StoreError):
            pull_image(store, client.repository(name), name, transfer=Transfer(parallel=1))
        registry.behave()
        before = [registry.count("GET", digest) for digest in good]
        with opened(tmp_path) as again, Store.open(tmp_path / "store", sync=False) as store:
            pull_image(store, again.repository(name), name)
        assert [registry.count("GET", digest) for digest in good] == before == [1, 1]
