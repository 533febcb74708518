"""Layers on their way out: packed in one stream, begun anew where a registry loses them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.errors import StoreError
from layerstore.oci.digest import Digest
from layerstore.progress import Progress, Status
from layerstore.registry.errors import UploadInvalid
from layerstore.registry.layers_out import Compression, parse_compression
from tests.helpers.registries import MemoryRegistry
from tests.layerstore.registry.test_push import made as made
from tests.layerstore.registry.test_push import make, push
from tests.layerstore.registry.test_push import registry as registry


@pytest.mark.parametrize("text", ["gzip", "gzip:3", "zstd", "zstd:19"])
def test_compressions_are_parsed(text: str) -> None:
    found = parse_compression(text)
    assert str(found).startswith(text) and isinstance(found, Compression)


@pytest.mark.parametrize(
    "text", ["", "xz", "gzip:9", "zstd:0", "zstd:x", "gzip:", "zstd:\u0663", "gzip:-1"]
)
def test_other_compressions_are_refused(text: str) -> None:
    with pytest.raises(StoreError):
        parse_compression(text)


def test_a_large_layer_is_sent_while_it_is_packed(
    store: Store, registry: MemoryRegistry, tmp_path: Path
) -> None:
    make(store, tmp_path / "large", 60 << 20)
    begun: list[int] = []
    registry.on_write = lambda: begun.append(registry.uploads)
    events: list[Progress] = []
    push(store, registry, report=events.append)
    assert len(begun) > 10
    moving = [event for event in events if event.status is Status.PUSHING]
    assert moving and all(event.done <= (event.total or 0) for event in moving)


def test_an_upload_that_is_lost_begins_anew(
    store: Store, registry: MemoryRegistry, made: Digest
) -> None:
    registry.lost = 2
    push(store, registry)
    registry.blobs.clear()
    registry.lost = 9
    with pytest.raises(UploadInvalid):
        push(store, registry)
    assert registry.uploads == 0


def test_a_push_that_fails_ends_its_threads(
    store: Store, registry: MemoryRegistry, made: Digest
) -> None:
    def broken() -> None:
        raise StoreError("the network is gone")

    registry.on_write = broken
    cancelled: list[bool] = []
    with pytest.raises(StoreError, match="the network is gone"):
        push(store, registry, cancel=lambda: cancelled.append(True))
    assert cancelled == [True]
    assert not [one for one in threading.enumerate() if one.name.startswith(("push", "tar"))]
