"""A repository of the real registry: what goes in comes out, and is what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.errors import UnknownMediaType
from layerstore.oci.digest import Digest, sha256_digest
from layerstore.oci.documents import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Manifest
from layerstore.oci.reference import parse_reference
from layerstore.registry.client import Client
from layerstore.registry.errors import (
    BadAnswer,
    BlobUnknown,
    ManifestUnknown,
    Missing,
    RepositoryUnknown,
    TooLarge,
    Unauthorized,
    UploadInvalid,
    WrongContent,
)
from layerstore.registry.repository import Repository
from tests.helpers.hostile_registry import Exchange, HostileRegistry, always, endless
from tests.helpers.registry_server import RegistryServer
from tests.layerstore.registry.clients import described, opened


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with opened(tmp_path) as found:
        yield found


@pytest.fixture
def repository(client: Client, registry_server: RegistryServer) -> Repository:
    """A new repository."""
    return client.repository(parse_reference(f"{registry_server.host}/{registry_server.name()}"))


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
    words = f"manifest for {repository.name}:none not found: manifest unknown: manifest unknown"
    with pytest.raises(ManifestUnknown, match=f"^{words}$"):
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


class TestHostileManifests:
    @pytest.fixture
    def hostile(self) -> Iterator[HostileRegistry]:
        with HostileRegistry.running() as running:
            running.add_manifest("v1", b'{"schemaVersion": 2}')
            yield running

    @pytest.fixture
    def other(self, client: Client, hostile: HostileRegistry) -> Repository:
        return client.repository(parse_reference(f"{hostile.host}/x"))

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"<html>", b"\xff", b'{"mediaType": 5}'])
    def test_what_is_no_manifest(
        self, hostile: HostileRegistry, other: Repository, data: bytes
    ) -> None:
        hostile.add_manifest("v1", data)
        with pytest.raises(BadAnswer, match="something else than a manifest"):
            other.get_manifest("v1")

    def test_manifest_that_is_too_large(self, hostile: HostileRegistry, other: Repository) -> None:
        hostile.add_manifest("v1", b" " * (4 << 20) + b"{}")
        with pytest.raises(TooLarge, match="more than 4096 KiB for the manifest"):
            other.get_manifest("v1")
        hostile.behave(endless("/manifests/"))
        with pytest.raises(TooLarge):
            other.get_manifest("v1")

    def test_manifest_with_another_digest(
        self, hostile: HostileRegistry, other: Repository
    ) -> None:
        asked = hostile.add_manifest("v1", b'{"schemaVersion": 2}')
        hostile.behave(always(200, "/manifests/", b'{"schemaVersion":2}'))
        with pytest.raises(WrongContent, match=f"for {asked}: it was damaged or altered"):
            other.get_manifest(asked)
        header = {"Docker-Content-Digest": asked}
        hostile.behave(always(200, "/manifests/", b'{"schemaVersion":2}', header))
        with pytest.raises(WrongContent):
            other.get_manifest("v1")

    def test_manifest_of_schema_1_is_called_so(
        self, hostile: HostileRegistry, other: Repository
    ) -> None:
        header = {
            "Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws",
            # That of the content without its signatures.
            "Docker-Content-Digest": sha256_digest(b"canonical"),
        }
        hostile.behave(always(200, "/manifests/", b'{"schemaVersion": 1}', header))
        with pytest.raises(UnknownMediaType, match=r"only a manifest of docker's schema 1"):
            other.get_manifest("v1")

    def test_digest_of_another_algorithm_says_nothing(
        self, hostile: HostileRegistry, other: Repository
    ) -> None:
        header = {"Docker-Content-Digest": "sha512:" + "ab" * 64}
        hostile.behave(always(200, "/manifests/", b"{}", header))
        assert other.get_manifest("v1").digest == sha256_digest(b"{}")
        head = other.head_manifest("v1")
        assert head is not None and head.digest is None

    def test_types_that_contradict(self, hostile: HostileRegistry, other: Repository) -> None:
        hostile.add_manifest("v1", json.dumps({"mediaType": OCI_MANIFEST}).encode(), OCI_INDEX)
        with pytest.raises(BadAnswer, match=r"that calls itself application/vnd\.oci"):
            other.get_manifest("v1")
        data = json.dumps({"mediaType": OCI_INDEX}).encode()
        for kind in (f"{OCI_INDEX}; charset=utf-8", "application/json", ""):
            hostile.add_manifest("v1", data, kind)
            assert other.get_manifest("v1").media_type == OCI_INDEX

    @pytest.mark.parametrize("status", [400, 401, 403, 405])
    def test_head_that_is_refused(
        self, hostile: HostileRegistry, other: Repository, status: int
    ) -> None:
        hostile.behave(lambda e: e.method == "HEAD" and e.is_manifest and e.reply(status))
        assert other.head_manifest("v1") is None
        assert other.get_manifest("v1").data == b'{"schemaVersion": 2}'

    def test_manifest_is_read_again_where_it_breaks_off(
        self, hostile: HostileRegistry, other: Repository
    ) -> None:
        cut = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"
        left = [2]

        def behave(exchange: Exchange) -> bool:
            if not exchange.is_manifest or not left[0]:
                return False
            left[0] -= 1
            return exchange.raw(cut)

        hostile.behave(behave)
        assert other.get_manifest("v1").data == b'{"schemaVersion": 2}'

    def test_manifest_that_was_stored_as_something_else(
        self, hostile: HostileRegistry, other: Repository
    ) -> None:
        header = {"Docker-Content-Digest": "sha256:" + "0" * 64}
        hostile.behave(lambda e: e.method == "PUT" and e.reply(201, b"", header))
        with pytest.raises(WrongContent, match=r"stored the manifest of .* as sha256:0"):
            other.put_manifest("v1", b"{}", OCI_MANIFEST)
