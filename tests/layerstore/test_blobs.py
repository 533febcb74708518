"""Blobs: whole or not there, collected only when nobody needs them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.errors import DigestMismatch, NotFound, SizeMismatch
from layerstore.oci.digest import sha256_digest
from tests.helpers.images import add_image, some_digest

CONTENT = b"content" * 100_000
DIGEST = sha256_digest(CONTENT)


def test_what_is_put_is_read_back(store: Store) -> None:
    assert store.blobs.put(io.BytesIO(CONTENT), DIGEST, len(CONTENT)) == DIGEST
    with store.blobs.open(DIGEST) as blob:
        assert blob.read() == CONTENT
    assert store.blobs.read(DIGEST) == CONTENT
    assert store.blobs.size(DIGEST) == len(CONTENT)
    assert store.blobs.has(DIGEST) and list(store.blobs.all()) == [DIGEST]


def test_what_is_not_as_announced_is_not_stored(store: Store) -> None:
    with pytest.raises(DigestMismatch):
        store.blobs.put(CONTENT, some_digest("other"))
    with pytest.raises(SizeMismatch):
        store.blobs.put(CONTENT, None, 5)
    assert list(store.blobs.all()) == []


def test_stream_that_fails_leaves_nothing(store: Store) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.blobs.put(io.BufferedReader(Broken()))
    assert list(store.blobs.all()) == []


def test_missing_blob(store: Store) -> None:
    for use in (store.blobs.open, store.blobs.read, store.blobs.size):
        with pytest.raises(NotFound, match=DIGEST):
            use(DIGEST)
    assert store.blobs.collect([DIGEST]) == [DIGEST]


def test_damaged_blob_is_never_believed_and_healed_by_another_put(store: Store) -> None:
    store.blobs.put(CONTENT)
    store.blobs.path(DIGEST).write_bytes(b"c0ntent")
    with pytest.raises(DigestMismatch, match="pyunion check"):
        store.blobs.read(DIGEST)
    store.blobs.put(CONTENT)
    assert store.blobs.read(DIGEST) == CONTENT


def test_collection_spares_what_is_named_or_leased(store: Store, tmp_path: Path) -> None:
    image = add_image(store, {"f": b"x"})
    loose = store.blobs.put(b"loose")
    with store.leases.lease("work", "test"):
        made = store.blobs.put(b"made")
        found = store.blobs.put(b"found")
        assert store.blobs.need(found) and not store.blobs.need(some_digest("never"))
        assert store.blobs.collect([image.id, loose, made, found]) == [loose]
    assert store.blobs.collect(list(store.blobs.all())) == sorted([made, found])


def test_foreign_names_are_no_blobs(store: Store) -> None:
    (store.root / "blobs" / "sha256" / "README").touch()
    assert list(store.blobs.all()) == []


@pytest.mark.parametrize("named", [True, False], ids=["named", "removed"])
def test_a_file_is_adopted_and_keeps_its_name(store: Store, named: bool) -> None:
    download = store.root / "partial" / "download"
    download.write_bytes(CONTENT)
    with store.leases.lease("work", "test"), download.open("rb") as file:
        if not named:
            download.unlink()
        store.blobs.adopt(file.fileno(), DIGEST, len(CONTENT))
        store.blobs.adopt(file.fileno(), DIGEST, len(CONTENT))
        assert store.blobs.read(DIGEST) == CONTENT and download.exists() == named
        assert store.blobs.collect([DIGEST]) == [], "it is leased"
