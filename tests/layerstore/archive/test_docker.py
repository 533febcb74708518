"""docker's manifest.json: what is read, and what we write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layerstore.archive.docker import Listed, blob_path, manifest_file, read_docker
from layerstore.archive.members import DirectoryMembers
from layerstore.errors import DigestMismatch, InvalidImage, InvalidReference
from layerstore.oci.digest import sha256_digest
from layerstore.oci.reference import parse_reference

CONFIG = b'{"rootfs":{"type":"layers","diff_ids":[]}}'
ID = sha256_digest(CONFIG)


def members(tmp_path: Path, listed: object, **files: bytes) -> DirectoryMembers:
    (tmp_path / "manifest.json").write_text(json.dumps(listed))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return DirectoryMembers(tmp_path)


def test_no_manifest_is_no_dockers_archive(tmp_path: Path) -> None:
    assert read_docker(DirectoryMembers(tmp_path)) is None


def test_an_image_with_names_and_parent(tmp_path: Path) -> None:
    entry = {
        "Config": "c",
        "RepoTags": ["box", "quay.io/a/b:1"],
        "Layers": ["l/layer.tar"],
        "Parent": "sha256:x",
    }
    (found,) = read_docker(members(tmp_path, [entry], c=CONFIG)) or []
    assert (found.config, found.layers, found.parent) == (CONFIG, ("l/layer.tar",), "sha256:x")
    assert [str(name) for name in found.names] == [
        "docker.io/library/box:latest",
        "quay.io/a/b:1",
    ]
    assert found.id == ID and found.manifest is None


@pytest.mark.parametrize(
    ("listed", "error"),
    [
        ({}, InvalidImage),
        ([7], InvalidImage),
        ([{"Config": 7}], InvalidImage),
        ([{"Config": "none"}], InvalidImage),
        ([{"Config": "c", "Layers": "l"}], InvalidImage),
        ([{"Config": "c", "RepoTags": ["A:B:C"]}], InvalidReference),
        ([{"Config": "c", "RepoTags": [f"a@{ID}"]}], InvalidReference),
    ],
)
def test_what_is_refused(tmp_path: Path, listed: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_docker(members(tmp_path, listed, c=CONFIG))


def test_a_configuration_named_by_a_digest_is_held_to_it(tmp_path: Path) -> None:
    path = tmp_path / blob_path(ID)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONFIG + b" ")
    with pytest.raises(DigestMismatch):
        read_docker(members(tmp_path, [{"Config": blob_path(ID)}]))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    names = [parse_reference("box:1")]
    data = manifest_file([Listed(ID, names, [ID], None), Listed(ID, [], [], ID)])
    first, second = json.loads(data)
    assert first == {
        "Config": blob_path(ID),
        "RepoTags": ["box:1"],
        "Layers": [blob_path(ID)],
    }
    assert (second["RepoTags"], second["Parent"]) == (None, ID)
