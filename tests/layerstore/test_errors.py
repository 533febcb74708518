"""Errors of the store are told apart by their class, whatever their text."""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
from pathlib import Path

import pytest

from layerstore.archive.load import load
from layerstore.diff.union import UnionFiles
from layerstore.errors import (
    AmbiguousId,
    DiskFull,
    InvalidReference,
    LayerUnreadable,
    NoSuchContainer,
    NoSuchImage,
    NotATar,
    NotFound,
    StoreError,
    shown,
)
from layerstore.store import Store
from tests.layerstore.image_archives import tar_of


def test_a_missing_image_carries_the_name_it_was_asked_by(store: Store) -> None:
    with pytest.raises(NoSuchImage) as raised:
        store.images.resolve("debian")
    assert (raised.value.name, str(raised.value)) == (
        "debian:latest",
        "No such image: debian:latest",
    )
    assert isinstance(raised.value, NotFound)


def test_a_missing_container_carries_the_name_it_was_asked_by(store: Store) -> None:
    with pytest.raises(NoSuchContainer) as raised:
        store.containers.resolve("box")
    assert (raised.value.name, str(raised.value)) == ("box", "No such container: box")


def test_the_beginning_of_two_ids_is_ambiguous(store: Store) -> None:
    images = [
        store.images.add(
            b'{"architecture":"amd64","os":"linux","config":{},'
            b'"rootfs":{"type":"layers","diff_ids":[]},"author":"%d"}' % number
        )
        for number in range(40)
    ]
    first = sorted(image.id.encoded[0] for image in images)
    twice = next(digit for digit, after in itertools.pairwise(first) if digit == after)
    with pytest.raises(AmbiguousId) as raised:
        store.images.resolve(twice)
    assert isinstance(raised.value, InvalidReference)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_full_disk_is_an_error_of_its_own(store: Store, wrapped: bool) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(DiskFull) as raised, store.staging.to_build():
        if not wrapped:
            raise full
        raise StoreError("the layer cannot be recorded") from full
    assert str(raised.value).count("pyunion prune") == 1


def test_any_other_fault_of_the_disk_is_none_of_a_full_one(store: Store) -> None:
    fault = OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(StoreError) as raised, store.staging.to_build():
        raise StoreError("the layer cannot be recorded") from fault
    assert not isinstance(raised.value, DiskFull)


def test_layers_that_are_gone_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(LayerUnreadable, match="none"):
        UnionFiles([tmp_path / "none"])


def test_what_is_no_tar_is_told_from_a_damaged_one(store: Store, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"no tar at all" * 100)
    with pytest.raises(NotATar, match="no tar archive of images"):
        load(store, tmp_path / "text")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("box:1", "box:1"),
        ("größe", "größe"),
        ("a\nError: b", "a\\nError: b"),
        ("\x1b[2J", "\\x1b[2J"),
        ("x" * 5000, "x" * 199 + "…"),
    ],
)
def test_what_an_archive_says_is_one_short_line(text: str, found: str) -> None:
    assert shown(text) == found


@pytest.mark.parametrize("name", ["\n", "a\rb", "\x1b]0;x\x07", "y" * 100_000])
def test_no_name_in_an_archive_makes_lines_of_its_own(store: Store, name: str) -> None:
    digest = "sha256:" + name
    for listed in (
        [{"Config": name}],
        [{"Config": "blobs/sha256/" + name}],
        [{"Config": "manifest.json", "RepoTags": [name]}],
        {"schemaVersion": 2, "mediaType": name, "layers": [], "config": {}},
        {"schemaVersion": name, "layers": []},
        {"schemaVersion": 2, "layers": [], "config": {"size": name}},
        {"schemaVersion": 2, "layers": [], "config": {"size": 1, "digest": digest}},
    ):
        with pytest.raises(StoreError) as raised:
            load(store, io.BytesIO(tar_of({"manifest.json": json.dumps(listed).encode()})))
        said = str(raised.value)
        assert said.isprintable() and len(said) < 500
