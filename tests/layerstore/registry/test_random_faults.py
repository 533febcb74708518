"""Any request may fail in any way: what was asked for comes, whole, or an error says why.

A registry answers with random faults. Either the work is done and every byte is right, or
it ends in a RegistryError within a bounded number of requests, and the next try, without
faults, succeeds.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from layerstore.oci.digest import sha256_digest
from layerstore.oci.documents import OCI_CONFIG, OCI_MANIFEST, Manifest
from layerstore.oci.reference import parse_reference
from layerstore.registry.errors import RegistryError
from layerstore.registry.repository import Repository
from layerstore.registry.retries import Retries
from tests.helpers.effort import examples
from tests.helpers.hostile_registry import Exchange, HostileRegistry
from tests.layerstore.registry.clients import SHORT, described, opened

LAYER = random.Random(7).randbytes(60_000)
CONFIG = json.dumps({"architecture": "amd64", "os": "linux"}).encode()
MANIFEST = Manifest.of(described(CONFIG, OCI_CONFIG), (described(LAYER),))
_MOST = 100  # rounds, until what most often happens has happened
QUICK = Retries(tries=4, first=0.0005, longest=0.002)


class Faults:
    """A behaviour that spoils some requests, by chance."""

    def __init__(self, seed: int, rate: float) -> None:
        self.chance = random.Random(seed)
        self.rate = rate

    def __call__(self, exchange: Exchange) -> bool:
        chance = self.chance
        if chance.random() >= self.rate:
            return False
        match chance.randrange(8):
            case 0:
                return exchange.drop()
            case 1:
                return exchange.reply(chance.choice((429, 500, 502, 503)))
            case 2:
                # The request is carried out, and its answer is lost.
                return self._unanswered(exchange)
            case 3 if exchange.is_blob:
                return self._cut(exchange)
            case 4 if exchange.is_blob and exchange.offset:
                return exchange.reply(200, exchange.registry.blobs[_digest(exchange)])
            case 5:
                return exchange.raw(chance.randbytes(chance.randrange(200)))
            case 6 if exchange.method == "PATCH":
                return self._part(exchange)
            case 7:
                return exchange.error(429, "TOOMANYREQUESTS", {"Retry-After": "0"})
        return False

    def _unanswered(self, exchange: Exchange) -> bool:
        exchange.wfile = open("/dev/null", "wb")  # noqa: SIM115  # the handler closes it
        exchange.registry.honest(exchange)
        return exchange.drop()

    def _cut(self, exchange: Exchange) -> bool:
        data = exchange.registry.blobs.get(_digest(exchange))
        if data is None:
            return False
        offset = min(exchange.offset, len(data))
        part = f"Content-Range: bytes {offset}-{len(data) - 1}/{len(data)}\r\n" if offset else ""
        head = f"HTTP/1.1 {206 if offset else 200} x\r\n{part}Content-Length: {len(data) - offset}"
        count = self.chance.randrange(len(data) - offset + 1)
        return exchange.raw(head.encode() + b"\r\n\r\n" + data[offset : offset + count])

    def _part(self, exchange: Exchange) -> bool:
        held = exchange.registry.uploads.get(exchange.route.rpartition("/")[2])
        first = int(exchange.headers["Content-Range"].partition("-")[0])
        if held is not None and first == len(held):
            held += exchange.body[: self.chance.randrange(len(exchange.body) + 1)]
        return exchange.drop()


def _digest(exchange: Exchange) -> str:
    return exchange.route.rpartition("/")[2]


def push(repository: Repository) -> None:
    pieces = [LAYER[at : at + 1000] for at in range(0, len(LAYER), 1000)]
    for data, chunks in ((CONFIG, [CONFIG]), (LAYER, pieces)):
        if not repository.has_blob(sha256_digest(data)):
            repository.upload_blob(chunks, sha256_digest(data), chunk=10_000)
    repository.put_manifest("v1", MANIFEST.data, OCI_MANIFEST)


def pull(repository: Repository) -> None:
    manifest = repository.get_manifest("v1")
    assert manifest.data == MANIFEST.data
    parsed = Manifest.parse(manifest.data)
    assert repository.read_blob(parsed.config) == CONFIG
    assert repository.read_blob(parsed.layers[0]) == LAYER
    assert repository.tags() == ["v1"]


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    with HostileRegistry.running() as running:
        yield running


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_all_comes_whole_or_an_error_says_why(
    tmp_path: Path, registry: HostileRegistry, rate: float
) -> None:
    seed = random.randrange(1 << 32)
    done = failed = 0
    for number in count():
        seen = done if rate < 0.5 else failed
        if number >= examples(8) and seen:
            break
        assert number < _MOST, f"seed {seed}: {done} done, {failed} failed"
        registry.blobs.clear()
        registry.manifests.clear()
        registry.uploads.clear()
        with opened(tmp_path, retries=QUICK, timeouts=SHORT) as client:
            name = parse_reference(f"{registry.host}/x")
            registry.behave()
            client.registry(registry.host).ping()
            for work in (push, pull):
                registry.behave(Faults(seed + number, rate))
                before = len(registry.requests)
                try:
                    work(client.repository(name))
                    done += 1
                except RegistryError:
                    failed += 1
                assert len(registry.requests) - before < 1000, f"seed {seed + number}"
                registry.behave()
                work(client.repository(name))
