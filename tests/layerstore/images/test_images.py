"""Images: added over existing layers, and what is reported about them."""

from __future__ import annotations

import json

import pytest

from layerstore import ImageConfig, Store
from layerstore.errors import DigestMismatch, InvalidImage, NotFound
from layerstore.oci.documents import OCI_CONFIG, Descriptor, HistoryEntry, Manifest
from layerstore.oci.reference import familiar
from tests.helpers.images import CREATED, add_image, add_layer, config_of, diff_id, some_digest

BASE, TOP = {"a": b"12345"}, {"b": b"123"}


def test_image_has_what_its_configuration_says(store: Store) -> None:
    image = add_image(store, BASE, TOP, names=["x:1"])
    assert image.size == 8
    assert (image.architecture, image.os, image.parent) == ("amd64", "linux", None)
    assert store.images.config(image).created == CREATED
    assert image.id == store.images.config(image).id
    assert image.top == store.images.config(image).chain[-1]
    assert [familiar(tag) for tag in image.tags] == ["x:1"]


def test_adding_again_changes_nothing(store: Store) -> None:
    image = add_image(store, BASE, names=["x"])
    data = store.images.config(image).data
    assert store.images.add(data, parent=some_digest("other")) == image


def test_one_that_is_there_is_written_again_only_if_it_is_damaged(store: Store) -> None:
    image = add_image(store, {"file": b"1"})
    path = store.blobs.path(image.id)
    data, there = path.read_bytes(), path.stat().st_ino
    assert store.images.add(data) == image
    assert path.stat().st_ino == there
    path.write_bytes(b"{}")
    assert store.images.add(data) == image
    assert path.read_bytes() == data
    path.unlink()
    assert store.images.add(data) == image
    assert path.read_bytes() == data


def test_image_without_layers(store: Store) -> None:
    image = add_image(store)
    assert image.top is None and image.size == 0
    assert store.images.history(image) == []


def test_image_whose_layer_is_missing_is_refused(store: Store) -> None:
    config = config_of([diff_id(BASE)])
    with pytest.raises(NotFound, match=f"no such layer: {diff_id(BASE)}"):
        store.images.add(config.data)
    assert store.images.all() == []


def test_invalid_configuration_is_refused(store: Store) -> None:
    with pytest.raises(InvalidImage):
        store.images.add(b"{")
    assert list(store.blobs.all()) == []


def test_damaged_configuration_is_never_believed(store: Store) -> None:
    image = add_image(store, BASE)
    path = store.blobs.path(image.id)
    path.write_bytes(path.read_bytes().replace(b"amd64", b"arm64"))
    with pytest.raises(DigestMismatch):
        store.images.config(image)


def test_history_is_newest_first_with_sizes_and_the_images_there_are(store: Store) -> None:
    base = add_image(store, BASE, names=["base"])
    config = store.images.config(base)
    config = config.derive(HistoryEntry(CREATED, "ENV x", "", "", empty_layer=True), diff_id=None)
    top = add_layer(store, base.top, TOP)
    entry = HistoryEntry("2024-05-07T00:00:00Z", "sh -c y", "me", "done")
    config = config.derive(entry, diff_id=top.diff_id)
    child = store.images.add(config.data, parent=base.id)
    lines = store.images.history(child)
    assert [(line.created_by, line.size, line.comment) for line in lines] == [
        ("sh -c y", 3, "done"),
        ("ENV x", 0, ""),
        ("layer 0", 5, ""),
    ]
    # docker names as many steps as there are parents, whichever those are.
    assert [line.id for line in lines] == [child.id, base.id, None]
    assert [familiar(tag) for tag in lines[1].tags] == ["base:latest"]
    assert lines[0].created_ns == 1715040000 * 10**9


def test_layers_without_history_still_weigh(store: Store) -> None:
    add_layer(store, None, BASE)
    image = store.images.add(config_of([diff_id(BASE)], history=[]).data)
    (line,) = store.images.history(image)
    assert (line.size, line.created_by, line.id) == (5, "", image.id)


def test_manifests_are_kept_byte_for_byte(store: Store) -> None:
    image = add_image(store, BASE)
    manifest = Manifest.of(Descriptor(OCI_CONFIG, image.id, 5), ())
    assert store.images.add_manifest(image, manifest) == manifest.digest
    assert store.images.manifests(image) == [manifest]
    with pytest.raises(NotFound):
        store.images.add_manifest(some_digest("gone"), manifest)


def test_parent_is_remembered(store: Store) -> None:
    base = add_image(store, BASE)
    child = add_image(store, BASE, TOP, parent=base.id)
    assert child.parent == base.id and store.images.children(base.id) == [child.id]


def test_inspect_has_dockers_fields(store: Store) -> None:
    image = add_image(
        store,
        BASE,
        TOP,
        names=["x:1"],
        author="me",
        config={"Cmd": ["sh"], "Labels": {"k": "v"}},
        variant="v2",
    )
    store.images.add_repo_digest(image, "docker.io/library/x", some_digest("m"))
    found = store.images.inspect(image)
    json.dumps(found)
    assert found["Id"] == image.id and found["RepoTags"] == ["x:1"]
    assert found["RepoDigests"] == [f"x@{some_digest('m')}"]
    assert (found["Parent"], found["Author"], found["Variant"]) == ("", "me", "v2")
    assert found["Created"] == CREATED and found["Size"] == 8
    config = found["Config"]
    assert isinstance(config, dict)
    assert config["Cmd"] == ["sh"] and config["Env"] is None and config["Labels"] == {"k": "v"}
    assert found["RootFS"] == {"Type": "layers", "Layers": [diff_id(BASE), diff_id(TOP)]}
    driver = found["GraphDriver"]
    assert isinstance(driver, dict) and isinstance(driver["Data"], dict)
    base, top = reversed(store.layers.chain(image.top))
    assert driver["Data"]["UpperDir"] == str(top.diff)
    assert driver["Data"]["LowerDir"] == str(base.diff)
    metadata = found["Metadata"]
    assert isinstance(metadata, dict) and isinstance(metadata["LastTagTime"], str)


def test_configuration_of_another_store_is_added_unchanged(store: Store) -> None:
    data = b'{\n  "rootfs": {"type": "layers", "diff_ids": []}, "os": "linux",  "x": 1e3}'
    image = store.images.add(data)
    assert store.images.config(image) == ImageConfig.parse(data)
    assert store.blobs.read(image.id) == data
