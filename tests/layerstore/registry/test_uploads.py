"""Uploads to a registry that loses, refuses and moves them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.oci.digest import sha256_digest
from layerstore.oci.reference import parse_reference
from layerstore.registry.credentials import Credentials
from layerstore.registry.errors import (
    BadAnswer,
    Denied,
    Interrupted,
    PullLimit,
    RegistryError,
    ServerFailed,
    Unauthorized,
    UnsafeRedirect,
    UploadInvalid,
    UploadLost,
)
from layerstore.registry.repository import Repository
from tests.helpers.hostile_registry import Exchange, HostileRegistry, always, dropped
from tests.layerstore.registry.clients import opened

DATA = random.Random(3).randbytes(5000)
DIGEST = sha256_digest(DATA)


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    with HostileRegistry.running() as running:
        yield running


@pytest.fixture
def repository(tmp_path: Path, registry: HostileRegistry) -> Iterator[Repository]:
    with opened(tmp_path) as client:
        yield client.repository(parse_reference(f"{registry.host}/x"))


def pieces(size: int = 700) -> list[bytes]:
    return [DATA[at : at + size] for at in range(0, len(DATA), size)]


def upload(repository: Repository, chunk: int = 1000, size: int = 700) -> None:
    assert repository.upload_blob(pieces(size), DIGEST, chunk) == DIGEST


def test_small_blob_goes_in_one_request(registry: HostileRegistry, repository: Repository) -> None:
    upload(repository, chunk=len(DATA) + 1)
    assert [registry.count(method) for method in ("POST", "PATCH", "PUT")] == [1, 0, 1]
    assert registry.blobs == {DIGEST: DATA}


def test_upload_begins_with_an_empty_body(
    registry: HostileRegistry, repository: Repository
) -> None:
    upload(repository)
    post = next(headers for method, _, headers in registry.requests if method == "POST")
    assert post["Content-Length"] == "0"
    patches = [headers for method, _, headers in registry.requests if method == "PATCH"]
    assert [patch["Content-Range"] for patch in patches][:2] == ["0-1399", "1400-2799"]


def test_location_is_used_as_it_came(registry: HostileRegistry, repository: Repository) -> None:
    upload(repository)
    paths = [path for method, path, _ in registry.requests if method in ("PATCH", "PUT")]
    assert paths[:2] == ["/v2/x/blobs/uploads/0?state=0", "/v2/x/blobs/uploads/0?state=1400"]
    assert paths[-1].endswith(f"?state=4200&digest={DIGEST}")


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_lost_answer_is_no_lost_upload(
    registry: HostileRegistry, repository: Repository, method: str, times: int
) -> None:
    registry.behave(dropped(method, "/blobs/uploads/", times))
    upload(repository)
    assert registry.blobs == {DIGEST: DATA}


def test_answer_is_lost_when_all_is_done(registry: HostileRegistry, repository: Repository) -> None:
    def take_and_drop(exchange: Exchange) -> bool:
        if exchange.method != "PUT":
            return False
        registry.add_blob(DATA)
        registry.uploads.clear()
        return exchange.drop()

    registry.behave(take_and_drop)
    upload(repository)
    assert registry.count("PUT") == 1


@pytest.mark.parametrize("kept", [0, 1, 2, 699, 700, 1399])
def test_part_of_a_chunk_arrives(
    registry: HostileRegistry, repository: Repository, kept: int
) -> None:
    left = [1]

    def take_a_part(exchange: Exchange) -> bool:
        if exchange.method != "PATCH" or not left[0]:
            return False
        left[0] = 0
        registry.uploads["0"] += exchange.body[:kept]
        return exchange.drop()

    registry.behave(take_a_part)
    if kept == 1:
        # "0-0" does not tell one byte from none, and the registry does not take it twice.
        with pytest.raises(UploadInvalid):
            upload(repository)
        return
    upload(repository)
    assert registry.blobs == {DIGEST: DATA}


def test_registry_takes_less_than_it_was_sent(
    registry: HostileRegistry, repository: Repository
) -> None:
    def take_half(exchange: Exchange) -> bool:
        if exchange.method != "PATCH" or len(exchange.body) < 1000:
            return False
        registry.uploads["0"] += exchange.body[:500]
        return exchange.reply(202, b"", registry.place(exchange, "0"))

    registry.behave(take_half)
    upload(repository)
    assert registry.blobs == {DIGEST: DATA}


def test_registry_is_at_another_offset(registry: HostileRegistry, repository: Repository) -> None:
    left = [1]

    def out_of_order(exchange: Exchange) -> bool:
        if exchange.method != "PATCH" or not left[0]:
            return False
        left[0] = 0
        registry.uploads["0"] += exchange.body[:900]
        return exchange.reply(416, b"", registry.place(exchange, "0"))

    registry.behave(out_of_order)
    upload(repository)
    assert registry.blobs == {DIGEST: DATA}


def test_offset_that_cannot_be_gone_on_from(
    registry: HostileRegistry, repository: Repository
) -> None:
    def lose_everything(exchange: Exchange) -> bool:
        if exchange.method == "PATCH" and registry.uploads["0"]:
            registry.uploads["0"].clear()
        return False

    registry.behave(lose_everything)
    with pytest.raises(UploadLost, match="the upload has to start again"):
        upload(repository)
    assert registry.blobs == {}


def test_upload_is_lost(registry: HostileRegistry, repository: Repository) -> None:
    def lose(exchange: Exchange) -> bool:
        if exchange.method != "PATCH":
            return False
        registry.uploads.clear()
        return exchange.drop()

    registry.behave(lose)
    with pytest.raises(UploadLost, match=f"{registry.host} no longer knows an upload to"):
        upload(repository)


def test_416_for_ever(registry: HostileRegistry, repository: Repository) -> None:
    registry.behave(
        lambda exchange: (
            exchange.method == "PATCH" and exchange.reply(416, b"", registry.place(exchange, "0"))
        )
    )
    with pytest.raises(UploadInvalid, match="refuses the bytes from 0 on"):
        upload(repository)


def test_digest_that_the_registry_refuses(
    registry: HostileRegistry, repository: Repository
) -> None:
    registry.behave(lambda e: e.method == "PUT" and e.error(400, "DIGEST_INVALID"))
    with pytest.raises(UploadInvalid, match="refused an upload to x"):
        upload(repository)
    assert registry.count("DELETE") == 1


def test_least_size_of_a_chunk(registry: HostileRegistry, repository: Repository) -> None:
    def wants_larger(exchange: Exchange) -> bool:
        if exchange.method != "POST":
            return False
        registry.uploads["0"] = bytearray()
        least = {"OCI-Chunk-Min-Length": "2000"}
        return exchange.reply(202, b"", {**registry.place(exchange, "0"), **least})

    registry.behave(wants_larger)
    upload(repository)
    sizes = [int(h["Content-Length"]) for m, _, h in registry.requests if m == "PATCH"]
    assert sizes and all(size >= 2000 for size in sizes)


def test_least_size_that_no_memory_holds(registry: HostileRegistry, repository: Repository) -> None:
    least = {"OCI-Chunk-Min-Length": str(1 << 40), "Location": "/v2/x/blobs/uploads/0"}
    registry.behave(always(202, "/uploads/", headers=least))
    with pytest.raises(BadAnswer, match="that much is not held in memory"):
        upload(repository)


def test_no_location(registry: HostileRegistry, repository: Repository) -> None:
    registry.behave(always(202, "/uploads/"))
    with pytest.raises(BadAnswer, match="without saying where"):
        upload(repository)


def test_location_on_another_host_gets_no_credentials(
    tmp_path: Path, registry: HostileRegistry
) -> None:
    with HostileRegistry.running() as other:
        other.uploads["0"] = bytearray()

        def lead_away(exchange: Exchange) -> bool:
            if exchange.headers.get("Authorization") is None:
                return exchange.reply(401, b"", {"WWW-Authenticate": "Basic realm=x"})
            there = {"Location": f"http://{other.host}/v2/x/blobs/uploads/0?key=a%2Bb"}
            return exchange.method == "POST" and exchange.reply(202, b"", there)

        registry.behave(lead_away)
        with opened(tmp_path, Credentials("ann", "secret")) as client:
            upload(client.repository(parse_reference(f"{registry.host}/x")))
        assert other.blobs == {DIGEST: DATA}
        assert all("Authorization" not in headers for _, _, headers in other.requests)
        assert other.requests[0][1] == "/v2/x/blobs/uploads/0?key=a%2Bb"


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://x.example/", "http://169.254.169.254/x", "http://[bad"],
)
def test_location_that_leads_astray(
    registry: HostileRegistry, repository: Repository, location: str
) -> None:
    registry.behave(always(202, "/uploads/", headers={"Location": location}))
    with pytest.raises((UnsafeRedirect, BadAnswer)):
        upload(repository)


def test_mount_that_is_done_and_one_that_is_not(
    registry: HostileRegistry, repository: Repository
) -> None:
    registry.behave(lambda e: "mount" in e.query and e.reply(201))
    assert repository.mount_blob(DIGEST, "other/repo") is None
    registry.behave()
    session = repository.mount_blob(DIGEST, "other/repo")
    assert session is not None
    with session:
        session.write(DATA)
        session.commit(DIGEST)
    assert registry.count("POST") == 2
    assert registry.requests[-2][1].startswith("/v2/x/blobs/uploads/") or registry.blobs


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_error_that_passes_is_waited_for(
    registry: HostileRegistry, repository: Repository, method: str, status: int
) -> None:
    left = [2]

    def busy(exchange: Exchange) -> bool:
        if exchange.method != method or not left[0]:
            return False
        left[0] -= 1
        return exchange.reply(status, b"", {"Retry-After": "0"})

    registry.behave(busy)
    upload(repository)
    assert registry.blobs == {DIGEST: DATA} and left == [0]


def test_pull_limit_is_no_reason_to_wait(registry: HostileRegistry, repository: Repository) -> None:
    registry.behave(
        lambda e: e.method == "PATCH" and e.reply(429, b"", {"Docker-RateLimit-Source": "x"})
    )
    with pytest.raises(PullLimit):
        upload(repository)
    assert registry.count("PATCH") == 1


def test_failures_that_last_are_told(registry: HostileRegistry, repository: Repository) -> None:
    wanted: list[tuple[int, type[RegistryError]]] = [
        (500, ServerFailed),
        (401, Unauthorized),
        (403, Denied),
    ]
    for status, kind in wanted:
        registry.behave(lambda e, status=status: e.method == "PATCH" and e.reply(status))  # type: ignore[misc]  # of a default
        with pytest.raises(kind, match=registry.host):
            upload(repository)
    registry.behave(dropped("PATCH", "", 1000))
    with pytest.raises(Interrupted):
        upload(repository)


def test_upload_that_is_left_is_cancelled(
    registry: HostileRegistry, repository: Repository
) -> None:
    with pytest.raises(ZeroDivisionError), repository.upload(100) as session:
        session.write(DATA)
        raise ZeroDivisionError
    assert registry.count("DELETE") == 1 and registry.uploads == {}
