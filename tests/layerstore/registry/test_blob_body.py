"""Blobs from a registry that does it wrong: broken off, lied about, encoded, too slow."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from layerstore.oci.digest import Digest
from layerstore.oci.documents import OCI_LAYER, Descriptor
from layerstore.oci.reference import parse_reference
from layerstore.registry.client import Client
from layerstore.registry.errors import (
    BadAnswer,
    BlobUnknown,
    Cancelled,
    Interrupted,
    RegistryError,
    TooSlow,
    WrongContent,
    WrongSize,
)
from layerstore.registry.repository import Repository
from tests.helpers.effort import examples
from tests.helpers.hostile_registry import (
    Behaviour,
    Exchange,
    HostileRegistry,
    always,
    another_range,
    answered,
    dropped,
    endless,
    in_chunks,
    other_content,
    range_refused,
    silent,
    slowly,
    truncated,
    without_ranges,
)
from tests.helpers.mounts import DEADLINE
from tests.layerstore.registry.clients import IMPATIENT, ONCE, SHORT, described, opened
from tests.layerstore.registry.locations import write

DATA = bytes(range(256)) * 40
RANDOM_OFFSETS = examples(12)


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    with HostileRegistry.running() as running:
        running.add_blob(DATA)
        yield running


@pytest.fixture
def client(tmp_path: Path, registry: HostileRegistry) -> Iterator[Client]:
    with opened(tmp_path, timeouts=SHORT) as client:
        yield client


@pytest.fixture
def repository(client: Client, registry: HostileRegistry) -> Repository:
    return client.repository(parse_reference(f"{registry.host}/x"))


def read(repository: Repository, offset: int = 0, data: bytes = DATA) -> tuple[int, bytes]:
    with repository.open_blob(described(data), offset) as body:
        return body.offset, b"".join(body.chunks(1000))


def test_honest_blob_from_each_kind_of_offset(
    registry: HostileRegistry, repository: Repository
) -> None:
    for offset in (0, 1, 5000, len(DATA) - 1, len(DATA)):
        assert read(repository, offset) == (offset, DATA[offset:])
    empty = described(b"")
    with repository.open_blob(empty) as body:
        assert body.readinto(bytearray(5)) == 0


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, len(DATA) - 1])
@pytest.mark.parametrize("ranges", [True, False])
def test_connection_that_breaks_once_is_taken_up(
    registry: HostileRegistry, repository: Repository, count: int, ranges: bool
) -> None:
    registry.behave(truncated(count, times=1, ranges=ranges))
    assert read(repository) == (0, DATA)
    assert registry.count("GET", "/blobs/") == 2


def test_connection_that_breaks_at_many_offsets(
    registry: HostileRegistry, repository: Repository
) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for _ in range(RANDOM_OFFSETS):
        count = chance.randrange(4000, len(DATA))
        registry.behave(truncated(count, times=3, ranges=chance.random() < 0.5))
        assert read(repository) == (0, DATA), f"seed {seed}, {count} bytes"


def test_connection_that_always_breaks_is_given_up(
    registry: HostileRegistry, repository: Repository
) -> None:
    registry.behave(truncated(10))
    with pytest.raises(Interrupted, match=f"{registry.host} closed the connection"):
        read(repository)
    assert registry.count("GET", "/blobs/") == 4


def test_progress_makes_earlier_failures_forgotten(
    registry: HostileRegistry, repository: Repository
) -> None:
    large = random.Random(1).randbytes(12 << 20)
    registry.add_blob(large)
    registry.behave(truncated(1200 << 10))
    digest = hashlib.sha256()
    with repository.open_blob(described(large)) as body:
        for piece in body.chunks():
            digest.update(piece)
    assert digest.hexdigest() == hashlib.sha256(large).hexdigest()


def test_offset_where_there_are_no_ranges_begins_anew(
    registry: HostileRegistry, repository: Repository
) -> None:
    registry.behave(without_ranges)
    assert read(repository, 500) == (0, DATA)


@pytest.mark.parametrize(
    "behaviour",
    [another_range(3), another_range(500, total=99999), range_refused(400), range_refused(416)],
)
def test_another_part_than_asked_is_never_joined(
    registry: HostileRegistry, repository: Repository, behaviour: Behaviour
) -> None:
    registry.behave(behaviour)
    assert read(repository, 500) == (0, DATA)
    registry.behave(truncated(700, times=1), behaviour)
    assert read(repository) == (0, DATA)


def test_part_that_nobody_asked_for(registry: HostileRegistry, repository: Repository) -> None:
    registry.behave(always(206, "/blobs/", DATA[5:], {"Content-Range": f"bytes 5-9/{len(DATA)}"}))
    with pytest.raises(BadAnswer, match="another part of the blob"):
        read(repository)


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b""])
def test_announced_size_has_to_be_the_descriptors(
    registry: HostileRegistry, repository: Repository, data: bytes
) -> None:
    registry.behave(other_content(data))
    with pytest.raises(
        WrongSize, match=f"{registry.host} sends {len(data)} bytes for the blob sha"
    ):
        read(repository)


def test_blob_in_chunks(registry: HostileRegistry, repository: Repository) -> None:
    registry.behave(in_chunks())
    assert read(repository) == (0, DATA)
    registry.behave(in_chunks(extra=b"more"))
    with pytest.raises(WrongSize, match="more than the 10240 bytes that were announced"):
        read(repository)


def test_end_of_a_connection_is_not_the_end_of_a_blob(
    registry: HostileRegistry, repository: Repository
) -> None:
    registry.behave(
        answered("/blobs/", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + DATA[:50])
    )
    with pytest.raises(WrongSize, match="sent 50 bytes for the blob"):
        read(repository)
    registry.behave(in_chunks(cut=True))
    assert read(repository) == (0, DATA)


def test_endless_body_ends_at_the_size(registry: HostileRegistry, repository: Repository) -> None:
    registry.behave(endless("/blobs/"))
    with pytest.raises(WrongSize, match="more than the 10240 bytes"):
        read(repository)


@pytest.mark.parametrize("where", ["before", "within", "after"])
def test_what_is_around_a_body_does_not_go_on_for_ever(
    registry: HostileRegistry, repository: Repository, where: str
) -> None:
    """Interim answers, extensions of chunks and trailers are no part of a body's size."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    filling = b"x" * (1 << 15)
    parts = {
        "before": (b"", b"HTTP/1.1 100 Continue\r\nX: %b\r\n\r\n"),
        "within": (head, b"1;%b\r\nx\r\n"),
        "after": (head + b"%x\r\n%b\r\n0\r\n" % (len(DATA), DATA), b"X: %b\r\n"),
    }
    first, again = parts[where]
    sent = []

    def behave(exchange: Exchange) -> bool:
        if not exchange.is_blob:
            return False
        exchange.raw(first)
        sent.append(0)
        while sent[-1] < 1 << 24:
            exchange.wfile.write(again % filling)
            sent[-1] += len(filling)
        return True

    registry.behave(behave)
    if where == "after":
        assert read(repository) == (0, DATA)
    else:
        with pytest.raises(BadAnswer, match="longer than it may be"):
            read(repository)
    assert max(sent) < 1 << 23, "the buffers of both ends, and what is read"


def test_encoding_of_a_proxy_is_told(registry: HostileRegistry, repository: Repository) -> None:
    registry.behave(in_chunks(encoding="gzip"))
    with pytest.raises(BadAnswer, match=r"a proxy before it, sends the blob .* encoded anew"):
        read(repository)
    registry.behave(always(200, "/blobs/", DATA[:-9], {"Content-Encoding": "gzip"}))
    with pytest.raises(BadAnswer, match="encoded anew"):
        read(repository)
    # Stores of objects keep the encoding of a layer as a header, and send it as it is.
    registry.behave(always(200, "/blobs/", DATA, {"Content-Encoding": "gzip"}))
    assert read(repository) == (0, DATA)


def test_other_content_of_the_same_size(registry: HostileRegistry, repository: Repository) -> None:
    registry.behave(other_content(bytes(len(DATA))))
    with pytest.raises(WrongContent, match=f"{registry.host} sent something else than the blob"):
        repository.read_blob(described(DATA))


def test_document_has_a_limit(repository: Repository) -> None:
    huge = Descriptor(OCI_LAYER, Digest.of_hex("0" * 64), 1 << 40)
    with pytest.raises(BadAnswer, match="more than 8 MiB are not read"):
        repository.read_blob(huge)


@pytest.mark.parametrize(
    "behaviour",
    [
        slowly("/blobs/", b"HTTP/1.1 200 OK\r\nContent-Length: 10240\r\n\r\n"),
        slowly("/blobs/", b"HTTP/1.1 200 OK\r\nX-Header: "),
        slowly("/blobs/", b"HTT"),
    ],
)
def test_slow_loris_is_left(
    tmp_path: Path, registry: HostileRegistry, behaviour: Behaviour
) -> None:
    registry.behave(behaviour)
    with opened(tmp_path, timeouts=IMPATIENT) as client:
        repository = client.repository(parse_reference(f"{registry.host}/x"))
        with pytest.raises(TooSlow, match=f"{registry.host} is too slow"):
            read(repository)


def test_host_that_stops_in_the_middle(tmp_path: Path, registry: HostileRegistry) -> None:
    def stops(exchange: object) -> bool:
        truncated(100)(exchange)  # type: ignore[arg-type]
        return registry.over.wait(DEADLINE)

    registry.behave(lambda exchange: exchange.is_blob and stops(exchange))
    idle = replace(SHORT, idle=0.1)
    with opened(tmp_path, retries=ONCE, timeouts=idle) as client, pytest.raises(TooSlow):
        read(client.repository(parse_reference(f"{registry.host}/x")))


def test_blob_that_is_not_there(repository: Repository) -> None:
    with pytest.raises(BlobUnknown, match="does not have the blob sha256:"):
        read(repository, data=b"unknown")


def test_lost_answer_is_asked_for_again(registry: HostileRegistry, repository: Repository) -> None:
    registry.behave(dropped("GET", "/blobs/", times=3))
    assert read(repository) == (0, DATA)


def test_waits_are_told(registry: HostileRegistry, repository: Repository) -> None:
    registry.behave(truncated(100, times=2))
    waits: list[tuple[float, RegistryError]] = []
    with repository.open_blob(
        described(DATA), notice=lambda seconds, error: waits.append((seconds, error))
    ) as body:
        assert b"".join(body.chunks()) == DATA
    assert len(waits) == 2
    assert all(seconds > 0 and isinstance(error, Interrupted) for seconds, error in waits)


@pytest.mark.parametrize(
    "behaviour",
    [
        truncated(100),
        truncated(0),
        another_range(3),
        other_content(b"short"),
        always(500, "/blobs/"),
        always(401, "/blobs/"),
        always(404, "/blobs/"),
    ],
)
def test_registry_goes_on_where_its_mirror_fails(
    tmp_path: Path, registry: HostileRegistry, behaviour: Behaviour
) -> None:
    with HostileRegistry.running() as mirror:
        mirror.add_blob(DATA)
        mirror.behave(behaviour)
        write(
            tmp_path / "etc/containers/registries.conf",
            f'[[registry]]\nlocation = "{registry.host}"\n'
            f'[[registry.mirror]]\nlocation = "{mirror.host}"\n',
        )
        with opened(tmp_path) as client:
            repository = client.repository(parse_reference(f"{registry.host}/x"))
            assert read(repository) == (0, DATA)
            assert mirror.count("GET", "/blobs/") > 0
            registry.blobs.clear()
            mirror.behave(always(404, "/blobs/"))
            with pytest.raises(BlobUnknown, match=f"^{registry.host} does not have"):
                read(repository)


def test_cancel_ends_a_read_that_waits(
    client: Client, registry: HostileRegistry, repository: Repository
) -> None:
    arrived = threading.Event()

    def announce(exchange: object) -> bool:
        arrived.set()
        return False

    registry.behave(lambda exchange: exchange.is_blob and announce(exchange), silent("/blobs/"))
    caught: list[BaseException] = []

    def work() -> None:
        try:
            read(repository)
        except RegistryError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert arrived.wait(DEADLINE)
    client.cancel()
    thread.join(3)
    assert not thread.is_alive()
    assert [type(error) for error in caught] == [Cancelled]
