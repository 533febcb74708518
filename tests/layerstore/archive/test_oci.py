"""OCI layouts: which image is meant, and what it is called."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from layerstore.archive.load import load
from layerstore.archive.oci import index_file
from layerstore.errors import InvalidImage
from layerstore.oci.digest import sha256_digest
from layerstore.oci.documents import OCI_CONFIG, Descriptor, Manifest, parse_index
from layerstore.oci.platform import parse_platform
from layerstore.oci.reference import parse_reference
from layerstore.store import Store
from tests.layerstore.image_archives import BASE, layout, many_platforms, old_docker, tar_of

TAG = {"org.opencontainers.image.ref.name": "12"}


def named(store: Store, source: Path | bytes, **options: object) -> list[str | None]:
    stream = source if isinstance(source, Path) else io.BytesIO(source)
    lines = load(store, stream, **options)  # type: ignore[arg-type]
    return [str(line.name) if line.name else None for line in lines]


def test_a_name_that_is_only_a_tag_is_of_the_file_it_is_in(store: Store, tmp_path: Path) -> None:
    for name, found in (
        ("debian.tar", "docker.io/library/debian:12"),
        ("my-os.oci.tar.gz", "docker.io/library/my-os:12"),
        ("Debian.tar", None),
        ("a:b.tar", None),
        (".tar", None),
    ):
        path = tmp_path / name
        path.write_bytes(tar_of(layout(BASE, ref=TAG)))
        assert named(store, path) == [found]


def test_a_directory_names_it_too(store: Store, tmp_path: Path) -> None:
    for name, data in layout(BASE, ref=TAG).items():
        path = tmp_path / "box" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert named(store, tmp_path / "box") == ["docker.io/library/box:12"]


def test_of_a_stream_no_name_is_known_but_the_callers(store: Store) -> None:
    archive = tar_of(layout(BASE, ref=TAG))
    assert named(store, archive) == [None]
    assert named(store, archive, name="box.tar") == ["docker.io/library/box:12"]


def test_a_whole_name_is_left_alone(store: Store) -> None:
    ref = {"org.opencontainers.image.ref.name": "quay.io/a/b:1"}
    assert named(store, tar_of(layout(BASE, ref=ref)), name="box") == ["quay.io/a/b:1"]


@pytest.mark.parametrize("architecture", ["amd64", "arm64/v8", "s390x"])
def test_the_platform_that_is_asked_for(store: Store, architecture: str) -> None:
    archive = tar_of(many_platforms("amd64", "arm64/v8", "s390x"))
    (line,) = load(store, io.BytesIO(archive), platform=parse_platform(f"linux/{architecture}"))
    config = store.images.config(line.image)
    assert config.architecture == architecture.partition("/")[0]


@pytest.mark.parametrize("files", [many_platforms("amd64", "s390x"), None])
def test_a_platform_that_is_not_there(store: Store, files: dict[str, bytes] | None) -> None:
    archive = tar_of(files) if files else old_docker(BASE)
    with pytest.raises(InvalidImage, match="the archive has no image for linux/arm64/v8"):
        load(store, io.BytesIO(archive), platform=parse_platform("linux/arm64"))
    assert store.images.all() == []


def test_an_index_names_each_manifest_by_each_of_its_names() -> None:
    about = Descriptor(OCI_CONFIG, sha256_digest(b"{}"), 2)
    manifest = Manifest.of(about, ())
    names = [parse_reference(text) for text in ("a:1", "b:2")]
    data = index_file([(manifest, names), (manifest, [])])
    entries = parse_index(data)
    assert [entry.digest for entry in entries] == [manifest.digest] * 3
    assert [entry.annotations.get("io.containerd.image.name") for entry in entries] == [
        "docker.io/library/a:1",
        "docker.io/library/b:2",
        None,
    ]
    assert json.loads(data)["schemaVersion"] == 2
