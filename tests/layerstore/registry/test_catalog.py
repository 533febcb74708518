"""A registry as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.registry.catalog import Found, Registry
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


class TestSearch:
    def test_what_is_found(self, hostile: HostileRegistry, registry: Registry) -> None:
        body = {
            "num_results": 3,
            "results": [
                {
                    "name": "debian",
                    "description": "A system.",
                    "star_count": 5000,
                    "is_official": True,
                    "is_automated": False,
                },
                {"name": "ann/tool", "is_automated": True, "star_count": "many"},
                {"description": "without a name"},
                "nonsense",
                {"name": "third"},
            ],
        }
        hostile.behave(always(200, "/v1/search", json.dumps(body).encode()))
        found = [
            Found("debian", "A system.", 5000, is_official=True),
            Found("ann/tool", is_automated=True),
            Found("third"),
        ]
        assert registry.search("a & b/c") == found
        assert registry.search(os.fsdecode(b"\xff"), limit=2) == found[:2]
        asked = [path for _, path, _ in hostile.requests if "search" in path]
        assert asked == ["/v1/search?q=a%20%26%20b%2Fc&n=25", "/v1/search?q=%FF&n=2"]

    def test_where_it_is_not_offered(self, hostile: HostileRegistry, registry: Registry) -> None:
        with pytest.raises(Missing, match='does not have the search for "x"'):
            registry.search("x")

    @pytest.mark.parametrize("body", ["[]", "{", '{"results": 5}', '{"results": [{"name": 5}]}'])
    def test_answer_that_is_no_result(
        self, hostile: HostileRegistry, registry: Registry, body: str
    ) -> None:
        hostile.behave(always(200, "/v1/search", body.encode()))
        with pytest.raises(BadAnswer, match="answers the search wrongly"):
            registry.search("x")
