"""Images in archives that are saved, and failures while they are."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from layerstore.archive.load import Loaded, load
from layerstore.archive.save import OCI_DIRECTORY, save
from layerstore.errors import DigestMismatch, NotFound, StoreError
from layerstore.store import Store
from tests.layerstore.image_archives import (
    BASE,
    TOP,
    config_of,
    hex_of,
    loaded,
    old_docker,
    saved,
    tar_of,
)


def test_save_is_what_docker_writes_since_25(store: Store, other: Store) -> None:
    loaded(store, old_docker(BASE, TOP))
    files = saved(store, "box")
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["box:1"]
    assert [files[path] for path in entry["Layers"]] == [BASE, TOP]
    assert files[entry["Config"]] == config_of(BASE, TOP)
    (named,) = json.loads(files["index.json"])["manifests"]
    assert named["annotations"]["io.containerd.image.name"] == "docker.io/library/box:1"
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hex_of(data)}"
    (line,) = loaded(other, tar_of(files))
    assert line.image == store.images.resolve("box:1").id


def test_same_image_same_archive(store: Store) -> None:
    loaded(store, old_docker(BASE, TOP))
    outs = [io.BytesIO(), io.BytesIO()]
    for out in outs:
        save(store, ["box:1"], out)
    assert outs[0].getvalue() == outs[1].getvalue()


def test_directories(store: Store, other: Store, tmp_path: Path) -> None:
    loaded(store, old_docker(BASE, TOP))
    save(store, ["box:1"], tmp_path / "layout", OCI_DIRECTORY)
    assert not (tmp_path / "layout" / "manifest.json").exists()
    (line,) = load(other, tmp_path / "layout")
    assert line.image == store.images.resolve("box:1").id
    with pytest.raises(StoreError, match="exists already"):
        save(store, ["box:1"], tmp_path / "layout", OCI_DIRECTORY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layout", "other", "store"]


def test_several_images_and_names(store: Store, other: Store) -> None:
    loaded(store, old_docker(BASE))
    loaded(store, old_docker(BASE, TOP, name="box:2"))
    store.images.tag(store.images.resolve("box:1"), "example.org/other:x")
    nameless = store.images.resolve("box:2").id
    files = saved(store, "box", "example.org/other:x")
    tags = [entry["RepoTags"] for entry in json.loads(files["manifest.json"])]
    assert sorted(map(sorted, tags)) == [["box:1", "example.org/other:x"], ["box:2"]]
    assert len(loaded(other, tar_of(files))) == 3
    by_id = saved(store, nameless.short)
    assert json.loads(by_id["manifest.json"])[0]["RepoTags"] is None
    assert loaded(other, tar_of(by_id)) == [Loaded(nameless, None)]
    with pytest.raises(NotFound):
        saved(store, "box:1", "none:1")


def test_a_layer_damaged_in_the_store_is_not_saved(store: Store) -> None:
    line = loaded(store, old_docker(BASE))[0]
    (layer,) = store.layers.chain(store.images.get(line.image).top)
    (layer.diff / "etc/motd").write_bytes(b"HELLO")
    with pytest.raises(DigestMismatch, match="has changed on disk"):
        saved(store, "box:1")
    (layer.diff / "etc/motd").write_bytes(b"h")
    with pytest.raises(DigestMismatch, match="shorter than it was"):
        saved(store, "box:1")
    (layer.diff / "etc/motd").unlink()
    with pytest.raises(DigestMismatch, match="cannot be read"):
        saved(store, "box:1")


def test_an_output_that_fails(store: Store) -> None:
    loaded(store, old_docker(BASE))

    class Full(io.RawIOBase):
        def write(self, data: object) -> int:
            raise OSError(28, os.strerror(28))

    with pytest.raises(OSError, match="No space"):
        save(store, ["box:1"], Full())
    assert store.leases.all() == []


def test_what_is_being_saved_outlasts_its_removal(store: Store, other: Store) -> None:
    (image,) = loaded(store, old_docker(tar_of({"a": b"x" * 1000}), tar_of({"b": b"y"})))

    class Remover(io.BytesIO):
        def write(self, data: object, /) -> int:
            if store.images.all():
                store.images.remove("box:1")
            assert isinstance(data, (bytes, bytearray, memoryview))
            return super().write(data)

    out = Remover()
    save(store, ["box:1"], out)
    assert [found.image for found in loaded(other, out.getvalue())] == [image.image]
    assert store.images.all() == []
    Store.open(store.root, sync=False).close()
    assert store.layers.all() == [], "they went as soon as nobody needed them"
