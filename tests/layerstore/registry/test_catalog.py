"""A registry as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.registry.catalog import Registry
from layerstore.registry.errors import BadAnswer, Denied, Missing
from tests.helpers.hostile_registry import HostileRegistry, always
from tests.layerstore.registry.clients import opened


@pytest.fixture
def hostile() -> Iterator[HostileRegistry]:
    with HostileRegistry.running() as running:
        yield running


@pytest.fixture
def registry(tmp_path: Path, hostile: HostileRegistry) -> Iterator[Registry]:
    with opened(tmp_path) as client:
        yield client.registry(hostile.host)


def test_ping(hostile: HostileRegistry, registry: Registry) -> None:
    registry.ping()
    hostile.behave(always(404, "/v2/"))
    with pytest.raises(Missing, match="the protocol of registries"):
        registry.ping()


def test_catalog_is_read_page_by_page(hostile: HostileRegistry, registry: Registry) -> None:
    for name in "abcde":
        hostile.add_manifest(name, b"{}")
    hostile.page = 2
    names = registry.catalog()
    assert next(names) == "a"
    assert hostile.count("GET", "_catalog") == 1
    assert list(names) == list("bcde")


def test_catalog_that_is_closed(hostile: HostileRegistry, registry: Registry) -> None:
    hostile.behave(always(403, "_catalog"))
    with pytest.raises(Denied):
        list(registry.catalog())
    hostile.behave(always(404, "_catalog"))
    with pytest.raises(Missing, match="does not have the catalog"):
        list(registry.catalog())


def test_catalog_that_is_no_list(hostile: HostileRegistry, registry: Registry) -> None:
    hostile.behave(always(200, "_catalog", b'{"repositories": 5}'))
    with pytest.raises(BadAnswer, match="lists its repositories wrongly"):
        list(registry.catalog())
