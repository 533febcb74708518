"""copy: what goes from place to place, and that nothing changes on the way."""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import closing
from pathlib import Path

import pytest

from layerstore.archive.members import open_members
from layerstore.archive.writer import DirectoryWriter, TarArchiveWriter
from layerstore.errors import (
    DigestMismatch,
    InvalidImage,
    NotFound,
    SizeMismatch,
    StoreError,
)
from layerstore.oci.documents import OCI_INDEX, parse_index
from layerstore.oci.platform import Platform
from layerstore.progress import Progress, Status
from layerstore.registry.copy import ArchiveGoal, RegistryGoal, copy_image
from layerstore.registry.origins import LayoutOrigin, RepositoryOrigin
from layerstore.registry.transfer import Transfer
from tests.helpers.registries import LAYERS, MemoryRegistry

AMD64 = Platform("linux", "amd64")


@pytest.fixture
def source() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def target() -> MemoryRegistry:
    return MemoryRegistry("registry.test/other")


def test_an_image_keeps_its_digest(source: MemoryRegistry, target: MemoryRegistry) -> None:
    kept = source.image(*LAYERS)
    copied = copy_image(RepositoryOrigin(source, "latest"), RegistryGoal(target, "1"))
    assert copied == (kept.digest, len(kept.data))
    assert target.manifests["1"] == kept and target.blobs == source.blobs
    assert target.uploads == 0
    events: list[Progress] = []
    goal = RegistryGoal(target, "2", Transfer(events.append))
    copy_image(RepositoryOrigin(source, "latest"), goal)
    assert {event.status for event in events} == {Status.LAYER_EXISTS}


def test_blobs_of_the_same_registry_are_mounted(
    source: MemoryRegistry, target: MemoryRegistry
) -> None:
    source.image(*LAYERS)
    target.others["team/app"] = source.blobs
    copy_image(RepositoryOrigin(source, "latest"), RegistryGoal(target, "1"))
    assert not [line for line in target.asked if line.startswith("UPLOAD")]
    assert not [line for line in source.asked if line.startswith("BLOB")]


def test_an_index_gives_one_platform_or_everything(
    source: MemoryRegistry, target: MemoryRegistry
) -> None:
    mine = source.image(*LAYERS[:1], tags=())
    other = source.image(*LAYERS[1:], tags=(), architecture="s390x")
    index = source.index((mine, "linux/amd64"), (other, "linux/s390x"))
    origin = RepositoryOrigin(source, "latest")
    assert copy_image(origin, RegistryGoal(target, "1"), platform=AMD64).digest == mine.digest
    assert len(target.blobs) == 2
    assert copy_image(origin, RegistryGoal(target, "all"), everything=True).digest == index.digest
    assert target.manifests.keys() >= {index.digest, mine.digest, other.digest, "all"}
    assert target.blobs == source.blobs


def test_an_index_is_converted_as_a_whole(source: MemoryRegistry, target: MemoryRegistry) -> None:
    mine = source.image(*LAYERS[:1], tags=())
    source.index((mine, "linux/amd64"))
    goal = RegistryGoal(target, "1")
    origin = RepositoryOrigin(source, "latest")
    copied = copy_image(origin, goal, everything=True, convert=True)
    top = target.manifests["1"]
    assert (copied.digest, top.media_type) == (top.digest, OCI_INDEX)
    (entry,) = parse_index(top.data)
    assert entry.digest != mine.digest and entry.digest in target.manifests
    assert target.blobs == source.blobs


def test_a_digest_that_is_not_the_images_is_no_name_for_it(
    source: MemoryRegistry, target: MemoryRegistry
) -> None:
    source.image(*LAYERS)
    wrong = f"sha256:{'0' * 64}"
    with pytest.raises(StoreError, match="cannot be named"):
        copy_image(RepositoryOrigin(source, "latest"), RegistryGoal(target, wrong))


def test_a_layout_gives_back_what_it_got(
    source: MemoryRegistry, target: MemoryRegistry, tmp_path: Path
) -> None:
    mine = source.image(*LAYERS[:1], tags=())
    index = source.index((mine, "linux/amd64"))
    with closing(DirectoryWriter(tmp_path / "layout")) as writer:
        goal = ArchiveGoal(writer, "name")
        copy_image(RepositoryOrigin(source, "latest"), goal, everything=True)
    listed = json.loads((tmp_path / "layout" / "index.json").read_text())["manifests"]
    assert [entry["digest"] for entry in listed] == [index.digest]
    for blob in (tmp_path / "layout" / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    members = open_members(tmp_path / "layout", tmp_path)
    try:
        origin = LayoutOrigin(members, "name")
        copied = copy_image(origin, RegistryGoal(target, "1"), everything=True)
    finally:
        members.close()
    assert copied.digest == index.digest and target.blobs == source.blobs


def test_an_archive_of_dockers_holds_one_image(source: MemoryRegistry) -> None:
    mine = source.image(*LAYERS[:1], tags=())
    source.index((mine, "linux/amd64"))
    goal = ArchiveGoal(TarArchiveWriter(io.BytesIO()), docker=True)
    with pytest.raises(StoreError, match="no index of several"):
        copy_image(RepositoryOrigin(source, "latest"), goal, everything=True)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "registry"])
@pytest.mark.parametrize(
    ("lie", "error"),
    [
        (lambda data: data[:-1] + b"x", StoreError),
        (lambda data: data[:-5], SizeMismatch),
        (lambda data: data + b"more", SizeMismatch),
    ],
    ids=["other", "short", "long"],
)
def test_a_blob_that_is_not_as_announced_is_not_copied(
    source: MemoryRegistry,
    target: MemoryRegistry,
    lie: object,
    error: type[StoreError],
    archive: bool,
) -> None:
    kept = source.image(*LAYERS)
    digest = json.loads(kept.data)["layers"][2]["digest"]
    source.blobs[digest] = lie(source.blobs[digest])  # type: ignore[operator]
    goal = ArchiveGoal(TarArchiveWriter(io.BytesIO())) if archive else RegistryGoal(target, "1")
    with pytest.raises(error):
        copy_image(RepositoryOrigin(source, "latest"), goal)
    assert target.manifests == {} and target.uploads == 0


def test_indexes_without_end_are_refused(source: MemoryRegistry, target: MemoryRegistry) -> None:
    inner = source.image(*LAYERS[:1], tags=())
    for _ in range(6):
        inner = source.index((inner, "linux/amd64"))
    with pytest.raises(InvalidImage, match="nested more than 4 deep"):
        copy_image(RepositoryOrigin(source, "latest"), RegistryGoal(target, "1"), everything=True)


def test_a_digest_mismatch_is_told_for_an_archive(source: MemoryRegistry) -> None:
    kept = source.image(LAYERS[0])
    digest = json.loads(kept.data)["layers"][0]["digest"]
    source.blobs[digest] = b"x" * len(source.blobs[digest])
    with pytest.raises(DigestMismatch, match=f"announced as {digest}"):
        copy_image(RepositoryOrigin(source, "latest"), ArchiveGoal(TarArchiveWriter(io.BytesIO())))


def test_a_missing_platform_is_told(source: MemoryRegistry, target: MemoryRegistry) -> None:
    mine = source.image(*LAYERS[:1], tags=())
    source.index((mine, "linux/amd64"))
    with pytest.raises(NotFound, match="there are: linux/amd64"):
        copy_image(
            RepositoryOrigin(source, "latest"),
            RegistryGoal(target, "1"),
            platform=Platform("linux", "s390x"),
        )
