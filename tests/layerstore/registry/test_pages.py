"""Lists in pages: to their end, in no circle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.oci.reference import parse_reference
from layerstore.registry.errors import BadAnswer, UnsafeRedirect
from layerstore.registry.repository import Repository
from tests.helpers.hostile_registry import HostileRegistry, always
from tests.layerstore.registry.clients import opened


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    with HostileRegistry.running() as running:
        for number in range(10):
            running.add_manifest(f"v{number}", b"{}")
        yield running


@pytest.fixture
def repository(tmp_path: Path, registry: HostileRegistry) -> Iterator[Repository]:
    with opened(tmp_path) as client:
        yield client.repository(parse_reference(f"{registry.host}/x"))


@pytest.mark.parametrize("page", [1, 3, 5, 10, 100])
def test_pages_to_the_end(registry: HostileRegistry, repository: Repository, page: int) -> None:
    registry.page = page
    assert repository.tags() == [f"v{number}" for number in range(10)]


@pytest.mark.parametrize("link", ["/v2/x/tags/list", "?"])
def test_circle(registry: HostileRegistry, repository: Repository, link: str) -> None:
    registry.behave(always(200, "/tags", b'{"tags": ["a"]}', {"Link": f"<{link}>; rel=next"}))
    with pytest.raises(BadAnswer, match="pages in circles for the tags of"):
        repository.tags()


def test_list_that_does_not_end(
    registry: HostileRegistry, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerstore.registry.pages.MOST_PAGES", 20)
    registry.behave(
        lambda e: (
            e.reply(200, b'{"tags": []}', {"Link": f"<{e.path}x>; rel=next"})
            if "/tags" in e.path
            else False
        )
    )
    with pytest.raises(BadAnswer, match="in circles"):
        repository.tags()


def test_next_page_that_leads_astray(registry: HostileRegistry, repository: Repository) -> None:
    link = {"Link": "<file:///etc/passwd>; rel=next"}
    registry.behave(always(200, "/tags", b'{"tags": []}', link))
    with pytest.raises(UnsafeRedirect):
        repository.tags()


@pytest.mark.parametrize("page", ["[]", "5", "{", "nothing"])
def test_page_that_is_no_object(
    registry: HostileRegistry, repository: Repository, page: str
) -> None:
    registry.behave(always(200, "/tags", page.encode()))
    with pytest.raises(BadAnswer, match=r"answers the tags of .* wrongly"):
        repository.tags()


@pytest.mark.parametrize("tags", [None, [], "v1", 5])
def test_tags_that_are_none(
    registry: HostileRegistry, repository: Repository, tags: object
) -> None:
    registry.behave(always(200, "/tags", json.dumps({"tags": tags}).encode()))
    assert repository.tags() == []
