"""push: what is sent, what is not, and that the same image gives the same bytes."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import zstandard

from layerstore import Store
from layerstore.db.layer_table import LayerTable
from layerstore.errors import DigestMismatch
from layerstore.oci.digest import Digest, sha256_digest
from layerstore.oci.documents import DOCKER_MANIFEST, OCI_MANIFEST
from layerstore.oci.reference import Reference
from layerstore.operations.check import check
from layerstore.operations.rootfs import import_image
from layerstore.progress import Progress, Status
from layerstore.registry.layers_out import Compression, parse_compression
from layerstore.registry.pull import pull_image
from layerstore.registry.push import NothingToPush, Pushed, manifest_of, push_image, tags_to_push
from layerstore.registry.transfer import PLAIN
from tests.helpers.registries import LAYERS, REPOSITORY, MemoryRegistry

NAME = Reference(REPOSITORY, "latest")
OTHER = "registry.test/other/app"


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def made(store: Store, tmp_path: Path) -> Digest:
    """An image of one layer that was made here, `NAME`."""
    return make(store, tmp_path / "tree")


def make(store: Store, tree: Path, size: int = 100_000) -> Digest:
    tree.mkdir()
    (tree / "file").write_bytes(os.urandom(size // 2) + bytes(size // 2))
    os.utime(tree / "file", (1, 1))
    os.utime(tree, (1, 1))
    image = import_image(store, tree)
    store.images.tag(image, NAME)
    return image.id


def push(
    store: Store,
    registry: MemoryRegistry,
    name: Reference = NAME,
    compression: Compression | None = None,
    **how: Any,
) -> Pushed:
    transfer = PLAIN._replace(**how)
    done = push_image(store, registry, name, compression=compression, transfer=transfer)
    assert registry.uploads == 0, "an upload was left open"
    return done


def sent(registry: MemoryRegistry) -> list[str]:
    return [line for line in registry.asked if line.startswith("UPLOAD")]


def test_an_image_made_here_is_packed_and_sent(
    store: Store, registry: MemoryRegistry, made: Digest
) -> None:
    pushed = push(store, registry)
    kept = registry.manifests["latest"]
    assert (kept.digest, len(kept.data), kept.media_type) == (
        pushed.digest,
        pushed.size,
        DOCKER_MANIFEST,
    )
    fields = json.loads(kept.data)
    assert fields["config"]["digest"] == made
    (layer,) = fields["layers"]
    (diff_id,) = json.loads(registry.blobs[made])["rootfs"]["diff_ids"]
    assert sha256_digest(gzip.decompress(registry.blobs[layer["digest"]])) == diff_id
    image = store.images.get(made)
    assert image.repo_digests == (Reference(REPOSITORY, None, pushed.digest),)
    assert check(store) == []


def test_a_second_push_sends_nothing(store: Store, registry: MemoryRegistry, made: Digest) -> None:
    first = push(store, registry)
    registry.asked.clear()
    events: list[Progress] = []
    assert push(store, registry, report=events.append) == first
    assert sent(registry) == [] and registry.asked[-1] == "PUT latest"
    assert events[-1].status is Status.LAYER_EXISTS


def test_what_a_registry_lost_is_packed_again_to_the_same_bytes(
    store: Store, registry: MemoryRegistry, made: Digest
) -> None:
    first = push(store, registry)
    before = dict(registry.blobs)
    registry.blobs.clear()
    assert push(store, registry) == first and registry.blobs == before


def test_another_store_gives_the_same_bytes(
    store: Store, registry: MemoryRegistry, made: Digest, tmp_path: Path
) -> None:
    """And so the layer exists in the registry already."""
    pushed = push(store, registry)
    with Store.open(tmp_path / "second", sync=False) as second:
        pull_image(second, registry, NAME)
        image = second.images.resolve(str(NAME))
        for row in second.layers.archives.of(second.layers.get(image.top or made).diff_id):
            LayerTable(second.database).delete_blob(row.digest)  # as if it had been made there
        again = MemoryRegistry()
        events: list[Progress] = []
        assert push(second, again, compression=parse_compression("gzip")).digest == pushed.digest
        push(second, registry, compression=parse_compression("gzip"), report=events.append)
        assert events[-1].status is Status.LAYER_EXISTS
        assert again.blobs == registry.blobs


def test_a_pulled_image_is_pushed_as_it_came(store: Store, registry: MemoryRegistry) -> None:
    kept = registry.image(*LAYERS)
    pull_image(store, registry, NAME)
    store.images.tag(store.images.resolve(str(NAME)), f"{OTHER}:2")
    target = MemoryRegistry("elsewhere.test/x")
    store.images.tag(store.images.resolve(str(NAME)), "elsewhere.test/x:2")
    pushed = push(store, target, Reference(target.name, "2"))
    assert pushed.digest == kept.digest and target.manifests["2"].data == kept.data
    assert target.blobs.items() <= registry.blobs.items()


def test_a_plain_layer_is_pushed_plain(store: Store, registry: MemoryRegistry) -> None:
    kept = registry.image(*LAYERS[:2], pack=bytes)
    pull_image(store, registry, NAME)
    target = MemoryRegistry("elsewhere.test/x")
    store.images.tag(store.images.resolve(str(NAME)), "elsewhere.test/x:2")
    assert push(store, target, Reference(target.name, "2")).digest == kept.digest
    assert target.blobs == registry.blobs


def test_a_blob_of_another_repository_there_is_mounted(
    store: Store, registry: MemoryRegistry
) -> None:
    registry.image(*LAYERS)
    pull_image(store, registry, NAME)
    target = MemoryRegistry(OTHER)
    target.others["team/app"] = registry.blobs
    store.images.tag(store.images.resolve(str(NAME)), f"{OTHER}:latest")
    events: list[Progress] = []
    push(store, target, Reference(OTHER, "latest"), report=events.append)
    assert len(sent(target)) == 1, "only the configuration"
    mounted = [event.note for event in events if event.status is Status.MOUNTED]
    assert mounted == ["team/app"] * 4


@pytest.mark.parametrize("refused", ["gone", "secret", "no mounts"])
def test_a_mount_that_fails_is_an_upload(
    store: Store, registry: MemoryRegistry, refused: str
) -> None:
    registry.image(*LAYERS)
    pull_image(store, registry, NAME)
    target = MemoryRegistry(OTHER)
    if refused == "secret":
        blobs = [
            blob.digest
            for layer in store.layers.all()
            for blob in store.layers.archives.of(layer.diff_id)
        ]
        store.remote.add_places("registry.test/secret", blobs)
    if refused == "no mounts":
        target.others["team/app"] = registry.blobs
        target.mounts = False
    store.images.tag(store.images.resolve(str(NAME)), f"{OTHER}:latest")
    push(store, target, Reference(OTHER, "latest"))
    assert len(sent(target)) == 5


def test_a_blob_that_is_not_kept_is_mounted_too(
    store: Store, registry: MemoryRegistry, made: Digest
) -> None:
    push(store, registry)
    target = MemoryRegistry(OTHER)
    target.others["team/app"] = registry.blobs
    store.images.tag(made, f"{OTHER}:latest")
    push(store, target, Reference(OTHER, "latest"))
    assert len(sent(target)) == 1
    target = MemoryRegistry(OTHER)
    push(store, target, Reference(OTHER, "latest"))
    assert len(sent(target)) == 2 and target.blobs == registry.blobs


def test_a_blob_that_stands_for_anothers_layer_is_mounted_as_it_came(
    store: Store, registry: MemoryRegistry
) -> None:
    registry.image(*LAYERS[:2])
    kept = registry.image(*LAYERS[:3], pack=zstandard.compress, tags=["other"])
    pull_image(store, registry, NAME)
    pull_image(store, registry, Reference(REPOSITORY, "other"))  # two layers are here
    image = store.images.resolve(f"{REPOSITORY}:other")
    target = MemoryRegistry(OTHER)
    target.others["team/app"] = registry.blobs
    store.images.tag(image, f"{OTHER}:2")
    store.images.tag(image, f"{REPOSITORY}:2")
    assert push(store, target, Reference(OTHER, "2")).digest == kept.digest
    assert push(store, registry, Reference(REPOSITORY, "2")).digest == kept.digest


def test_a_layer_that_is_there_twice_is_sent_once(store: Store, registry: MemoryRegistry) -> None:
    kept = registry.image(LAYERS[0], LAYERS[1], LAYERS[1], LAYERS[2], LAYERS[1])
    pull_image(store, registry, NAME)
    target = MemoryRegistry("elsewhere.test/x")
    store.images.tag(store.images.resolve(str(NAME)), "elsewhere.test/x:2")
    told: list[Progress] = []
    pushed = push(store, target, Reference(target.name, "2"), report=told.append)
    assert pushed.digest == kept.digest and len(sent(target)) == 4
    statuses = [event.status for event in told]
    assert statuses.count(Status.PREPARING) == 5 and statuses.count(Status.PUSHED) == 3
    assert Status.LAYER_EXISTS not in statuses and Status.WAITING not in statuses


def test_zstd_wants_a_manifest_of_ocis(
    store: Store, registry: MemoryRegistry, made: Digest
) -> None:
    push(store, registry, compression=parse_compression("zstd:5"))
    kept = registry.manifests["latest"]
    assert kept.media_type == OCI_MANIFEST
    (layer,) = json.loads(kept.data)["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(registry.blobs[layer["digest"]])
    assert sha256_digest(plain) in registry.blobs[made].decode()
    registry.asked.clear()
    push(store, registry, compression=parse_compression("zstd:5"))
    assert sent(registry) == []
    push(store, registry)
    assert registry.manifests["latest"].media_type == DOCKER_MANIFEST


def test_a_compression_that_was_asked_for_replaces_another(
    store: Store, registry: MemoryRegistry
) -> None:
    registry.image(*LAYERS)
    pull_image(store, registry, NAME)
    push(store, registry, compression=parse_compression("zstd"))
    kinds = {
        layer["mediaType"] for layer in json.loads(registry.manifests["latest"].data)["layers"]
    }
    assert kinds == {"application/vnd.oci.image.layer.v1.tar+zstd"}
    assert check(store) == []


def test_a_new_layer_goes_with_those_that_came(
    store: Store, registry: MemoryRegistry, made: Digest
) -> None:
    """The manifest is docker's as long as each layer is of a kind that it can name."""
    kept = registry.image(*LAYERS[:1])
    fields = json.loads(kept.data)
    layer = Digest(fields["layers"][0]["digest"])
    from layerstore.oci.documents import Descriptor

    docker = Descriptor(fields["layers"][0]["mediaType"], layer, 5)
    zstd = Descriptor("application/vnd.oci.image.layer.v1.tar+zstd", layer, 5)
    assert manifest_of(made, 3, (docker, docker)).media_type == DOCKER_MANIFEST
    mixed = manifest_of(made, 3, (docker, zstd))
    assert mixed.media_type == OCI_MANIFEST
    assert [one.media_type for one in mixed.layers] == [
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
    ]


def test_a_damaged_layer_is_not_pushed(
    store: Store, registry: MemoryRegistry, made: Digest
) -> None:
    (layer,) = store.layers.all()
    (layer.diff / "file").write_bytes(b"x" * 100_000)
    with pytest.raises(DigestMismatch, match="has changed on disk"):
        push(store, registry)
    assert registry.manifests == {} and sent(registry) == []


def test_a_damaged_blob_is_not_pushed(store: Store, registry: MemoryRegistry) -> None:
    kept = registry.image(*LAYERS)
    pull_image(store, registry, NAME)
    digest = Digest(json.loads(kept.data)["layers"][1]["digest"])
    path = store.blobs.path(digest)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    target = MemoryRegistry("elsewhere.test/x")
    store.images.tag(store.images.resolve(str(NAME)), "elsewhere.test/x:2")
    with pytest.raises(DigestMismatch, match=f"the blob {digest} of the store is damaged"):
        push(store, target, Reference(target.name, "2"))
    assert target.manifests == {}


def test_only_what_has_the_name_is_pushed(
    store: Store, registry: MemoryRegistry, made: Digest
) -> None:
    with pytest.raises(NothingToPush, match=re.escape(f"with the tag: {REPOSITORY}")):
        push(store, registry, Reference(REPOSITORY, "other"))
    store.images.tag(made, f"{REPOSITORY}:2")
    assert tags_to_push(store, REPOSITORY) == [Reference(REPOSITORY, "2"), NAME]
    with pytest.raises(NothingToPush):
        tags_to_push(store, "registry.test/none")
