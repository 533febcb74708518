"""Where images are copied from: archives, and which image in them is meant."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerstore.archive.members import Members, open_members
from layerstore.errors import InvalidImage, NotFound
from layerstore.oci.digest import sha256_digest
from layerstore.oci.documents import Manifest
from layerstore.registry.copy import RegistryGoal, copy_image
from layerstore.registry.origins import DockerOrigin, LayoutOrigin, layout_index
from tests.helpers.registries import MemoryRegistry
from tests.layerstore.image_archives import BASE, TOP, layout, old_docker, tar_of


@contextmanager
def members(archive: bytes, tmp_path: Path) -> Iterator[Members]:
    opened = open_members(io.BytesIO(archive), tmp_path)
    try:
        yield opened
    finally:
        opened.close()


def test_an_archive_of_dockers_gets_a_manifest(tmp_path: Path) -> None:
    target = MemoryRegistry()
    with members(old_docker(BASE, TOP), tmp_path) as opened:
        copy_image(DockerOrigin(opened, "box:1"), RegistryGoal(target, "1"))
    manifest = Manifest.parse(target.manifests["1"].data)
    assert [layer.digest for layer in manifest.layers] == [
        sha256_digest(BASE),
        sha256_digest(TOP),
    ]
    assert target.blobs[manifest.layers[1].digest] == TOP
    assert json.loads(target.blobs[manifest.config.digest])["config"] == {"Cmd": ["sh"]}


def test_the_image_is_found_by_its_name_or_as_the_only_one(tmp_path: Path) -> None:
    with members(old_docker(BASE), tmp_path) as opened:
        assert DockerOrigin(opened).top().digest == DockerOrigin(opened, "box:1").top().digest
        with pytest.raises(NotFound, match=r'no image "other"; there are: .*box:1'):
            DockerOrigin(opened, "other")


def test_what_is_no_archive_of_that_kind_is_refused(tmp_path: Path) -> None:
    with members(tar_of({"x": b"y"}), tmp_path) as opened:
        with pytest.raises(InvalidImage, match=r"no manifest\.json"):
            DockerOrigin(opened)
        with pytest.raises(InvalidImage, match=r"no index\.json"):
            LayoutOrigin(opened).top()


def test_a_layout_is_read_by_name(tmp_path: Path) -> None:
    files = layout(
        BASE, pack=gzip.compress, suffix="+gzip", ref={"org.opencontainers.image.ref.name": "v1"}
    )
    with members(tar_of(files), tmp_path) as opened:
        top = LayoutOrigin(opened, "v1").top()
        assert LayoutOrigin(opened).top() == top
        with pytest.raises(NotFound, match='no image "v2"; there are: v1'):
            LayoutOrigin(opened, "v2").top()
        target = MemoryRegistry()
        assert copy_image(LayoutOrigin(opened), RegistryGoal(target, "1")).digest == top.digest


def test_the_index_of_a_layout_names_its_image() -> None:
    manifest = MemoryRegistry().image(BASE)
    (entry,) = json.loads(layout_index(manifest, "v1"))["manifests"]
    assert entry["digest"] == manifest.digest
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "v1"}
    (entry,) = json.loads(layout_index(manifest, ""))["manifests"]
    assert "annotations" not in entry
