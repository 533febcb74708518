"""Which manifest of an index is meant for a platform."""

from __future__ import annotations

import pytest

from layerstore.errors import InvalidImage, NotFound
from layerstore.oci.documents import Descriptor, Manifest
from layerstore.oci.platform import Platform
from layerstore.registry.choice import choose, here, parse_config, platform_of, runs
from layerstore.registry.remote import Document
from tests.helpers.images import some_digest
from tests.helpers.registries import LAYERS, MemoryRegistry


def chosen(wanted: str, *there: str) -> str:
    """Return which of the platforms `there` is chosen for `wanted`, "" for none."""
    registry = MemoryRegistry()
    by_digest = {}
    entries = []
    for number, platform in enumerate(there):
        kept = registry.image(LAYERS[0], tags=(), number=number)
        by_digest[kept.digest] = platform
        entries.append((kept, platform))
    index = registry.index(*entries)
    try:
        found = choose(
            index, Platform(*wanted.split("/")), lambda entry: registry.manifests[entry.digest]
        )
    except NotFound:
        return ""
    assert [document.digest for document in found.indexes] == [index.digest]
    return by_digest[found.manifest.digest]


@pytest.mark.parametrize(
    ("wanted", "there", "which"),
    [
        ("linux/amd64", ["linux/arm64/v8", "linux/amd64"], "linux/amd64"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], "linux/arm/v5"),
        ("linux/arm/v7", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v6", ["linux/arm/v7"], ""),
        ("linux/arm64/v8", ["linux/arm64"], "linux/arm64"),
        ("linux/arm64", ["linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v8", ["linux/arm/v7", "linux/amd64"], "linux/arm/v7"),
        ("linux/amd64", ["linux/386"], "linux/386"),
        ("linux/amd64", ["linux/386", "linux/amd64"], "linux/amd64"),
        ("linux/386", ["linux/amd64"], ""),
        ("linux/amd64", ["windows/amd64"], ""),
        ("linux/amd64", ["unknown/unknown"], ""),
        ("linux/amd64", [], ""),
    ],
)
def test_the_order_of_preference_is_dockers(wanted: str, there: list[str], which: str) -> None:
    assert chosen(wanted, *there) == which


def test_an_index_within_an_index_is_looked_into() -> None:
    registry = MemoryRegistry()
    mine = registry.image(LAYERS[0], tags=())
    inner = registry.index((mine, "linux/amd64"), tags=())
    outer = registry.index((inner, ""))
    found = choose(outer, Platform("linux", "amd64"), lambda e: registry.manifests[e.digest])
    assert found.manifest.digest == mine.digest
    assert [document.digest for document in found.indexes] == [outer.digest, inner.digest]


def test_an_entry_is_held_to_its_size_and_digest() -> None:
    registry = MemoryRegistry()
    mine, other = registry.image(LAYERS[0], tags=()), registry.image(LAYERS[1], tags=())
    index = registry.index((mine, "linux/amd64"))

    def get(_: Descriptor) -> Document:
        return other

    with pytest.raises(InvalidImage, match=str(mine.digest)):
        choose(index, Platform("linux", "amd64"), get)


def test_this_machine_runs_its_own() -> None:
    assert runs(here(), here()) == 4
    assert platform_of(Descriptor("x", some_digest("x"), 1)) == Platform("", "")


def test_a_config_has_a_diff_id_for_each_layer() -> None:
    registry = MemoryRegistry()
    manifest = Manifest.parse(registry.image(*LAYERS).data)
    config, diff_ids = parse_config(registry.blobs[manifest.config.digest], manifest)
    assert diff_ids == config.diff_ids and len(diff_ids) == len(LAYERS)
