"""A repository of the real registry: what goes in comes out, and is what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from layerstore.oci.digest import Digest, sha256_digest
from layerstore.oci.documents import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, Manifest
from layerstore.oci.reference import parse_reference
from layerstore.registry.client import Client
from layerstore.registry.errors import (
    BlobUnknown,
    ManifestUnknown,
    Missing,
    RepositoryUnknown,
    Unauthorized,
    UploadInvalid,
)
from layerstore.registry.repository import Repository
from tests.helpers.registry_server import RegistryServer


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as opened:
        yield opened


@pytest.fixture
def repository(client: Client, registry_server: RegistryServer) -> Repository:
    """A new repository."""
    return client.repository(parse_reference(f"{registry_server.host}/{registry_server.name()}"))


def described(data: bytes, kind: str = OCI_LAYER) -> Descriptor:
    return Descriptor(kind, sha256_digest(data), len(data))


def put_image(repository: Repository, tag: str, layer: bytes = b"a layer") -> Manifest:
    """Put an image of one layer into the registry."""
    config = json.dumps({"architecture": "amd64", "os": "linux"}).encode()
    for data in (config, layer):
        repository.upload_blob([data], sha256_digest(data))
    manifest = Manifest.of(described(config, OCI_CONFIG), (described(layer),))
    assert repository.put_manifest(tag, manifest.data, OCI_MANIFEST) == manifest.digest
    return manifest


def test_manifest_comes_back_byte_for_byte(repository: Repository) -> None:
    manifest = put_image(repository, "v1")
    head = repository.head_manifest("v1")
    assert head == (manifest.digest, OCI_MANIFEST, len(manifest.data))
    for reference in ("v1", manifest.digest):
        found = repository.get_manifest(reference)
        assert found == (manifest.data, OCI_MANIFEST, manifest.digest)


def test_manifest_that_is_not_there(repository: Repository) -> None:
    with pytest.raises(Missing):
        repository.get_manifest("none")
    put_image(repository, "v1")
    with pytest.raises(ManifestUnknown, match=f"does not have the manifest {repository.name}:none"):
        repository.get_manifest("none")
    with pytest.raises(ManifestUnknown):
        repository.head_manifest("none")


@pytest.mark.parametrize("offset", [0, 1, 70_000, 99_999, 100_000])
def test_blob_from_an_offset(repository: Repository, offset: int) -> None:
    data = bytes(range(250)) * 400
    repository.upload_blob([data])
    with repository.open_blob(described(data), offset) as body:
        assert body.offset == offset
        assert b"".join(body.chunks(3000)) == data[offset:]


def test_blob_that_is_not_there(repository: Repository) -> None:
    missing = described(b"never uploaded")
    assert not repository.has_blob(missing.digest)
    with pytest.raises(BlobUnknown), repository.open_blob(missing):
        pass


@pytest.mark.parametrize("sizes", [[0], [5], [100], [64] * 4, [1000, 1, 999], [300, 7]])
def test_upload_in_chunks(repository: Repository, sizes: list[int]) -> None:
    pieces = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    data = b"".join(pieces)
    digest = repository.upload_blob(iter(pieces), chunk=128)
    assert digest == sha256_digest(data)
    assert repository.has_blob(digest)
    assert repository.read_blob(described(data)) == data


def test_upload_with_another_digest_is_refused(repository: Repository) -> None:
    with pytest.raises(UploadInvalid, match="was damaged here"):
        repository.upload_blob([b"data"], Digest.of_hex("0" * 64))
    assert not repository.has_blob(sha256_digest(b"data"))


def test_blob_is_mounted_from_another_repository(
    client: Client, repository: Repository, registry_server: RegistryServer
) -> None:
    digest = repository.upload_blob([b"shared by two"])
    name = registry_server.name()
    other = client.repository(parse_reference(f"{registry_server.host}/{name}"))
    assert not other.has_blob(digest)
    assert other.mount_blob(digest, repository.name.partition("/")[2]) is None
    assert other.has_blob(digest)


def test_mount_of_what_is_not_there_becomes_an_upload(
    repository: Repository, registry_server: RegistryServer
) -> None:
    data = b"not there yet"
    upload = repository.mount_blob(sha256_digest(data), registry_server.name())
    assert upload is not None
    with upload:
        upload.write(data)
        upload.commit(sha256_digest(data))
    assert repository.read_blob(described(data)) == data


def test_tags(repository: Repository) -> None:
    with pytest.raises(RepositoryUnknown):
        repository.tags()
    for tag in ("v1", "v2", "latest"):
        put_image(repository, tag)
    assert sorted(repository.tags()) == ["latest", "v1", "v2"]


def test_catalog_in_pages(client: Client, registry_server: RegistryServer) -> None:
    names = [registry_server.name("paged") for _ in range(5)]
    for name in names:
        put_image(client.repository(parse_reference(f"{registry_server.host}/{name}")), "latest")
    assert set(names) <= set(client.registry(registry_server.host).catalog(page=2))


def test_login_is_wanted(client: Client, password_registry: RegistryServer) -> None:
    host = password_registry.host
    with pytest.raises(Unauthorized, match=f"`pyunion login {host}` first"):
        client.repository(parse_reference(f"{host}/some/thing")).tags()
