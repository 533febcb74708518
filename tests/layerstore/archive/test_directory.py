"""skopeo's `dir:` layout, which is podman's docker-dir."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from layerstore.archive.load import load
from layerstore.errors import DigestMismatch, InvalidImage, SizeMismatch, StoreError
from layerstore.oci.platform import parse_platform
from layerstore.store import Store
from tests.layerstore.image_archives import (
    BASE,
    TOP,
    config_of,
    descriptor,
    directory,
    hex_of,
    sha,
    tar_of,
)


def write(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_image_without_a_name(store: Store, tmp_path: Path, pack: type[bytes]) -> None:
    files = directory(BASE, TOP, pack=lambda data: pack(data))
    (line,) = load(store, write(tmp_path / "image", files))
    assert (line.image, line.name) == (sha(config_of(BASE, TOP)), None)
    top, base = store.layers.chain(store.images.get(line.image).top)
    assert (base.diff / "etc/motd").read_bytes() == b"hello"
    assert (top.diff / "etc/new").read_bytes() == b"y"
    (manifest,) = store.images.manifests(line.image)
    assert manifest.data == files["manifest.json"]


def test_the_directory_may_be_in_a_tar(store: Store) -> None:
    assert len(load(store, io.BytesIO(tar_of(directory(BASE))))) == 1


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda config: {}, InvalidImage, "lacks .*, the configuration of the image"),
        (lambda config: {hex_of(config): config + b" "}, SizeMismatch, "bytes"),
        (lambda config: {hex_of(config): b"?" * len(config)}, DigestMismatch, "has the digest"),
    ],
)
def test_the_configuration_is_held_to_its_descriptor(
    store: Store, change: object, error: type[StoreError], match: str
) -> None:
    config = config_of(BASE)
    files = directory(BASE)
    del files[hex_of(config)]
    files |= change(config)  # type: ignore[operator]
    with pytest.raises(error, match=match):
        load(store, io.BytesIO(tar_of(files)))
    assert store.images.all() == []


def test_a_layer_is_held_to_its_digest(store: Store) -> None:
    packed = gzip.compress(BASE, mtime=0)
    files = directory(BASE, pack=lambda data: packed)
    files[hex_of(packed)] = packed[:-1] + b"?"
    with pytest.raises(DigestMismatch):
        load(store, io.BytesIO(tar_of(files)))


def test_of_an_index_the_image_for_the_platform(store: Store) -> None:
    files: dict[str, bytes] = {}
    entries = []
    for architecture in ("amd64", "s390x"):
        image = directory(BASE, architecture=architecture)
        manifest = image.pop("manifest.json")
        files |= image | {f"{hex_of(manifest)}.manifest.json": manifest}
        platform = {"os": "linux", "architecture": architecture}
        entries.append(descriptor(manifest, "manifest.v1+json", platform=platform))
    files["manifest.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    archive = tar_of(files)
    (line,) = load(store, io.BytesIO(archive), platform=parse_platform("linux/s390x"))
    assert store.images.get(line.image).architecture == "s390x"
    with pytest.raises(InvalidImage, match="no image for linux/riscv64"):
        load(store, io.BytesIO(archive), platform=parse_platform("riscv64"))
