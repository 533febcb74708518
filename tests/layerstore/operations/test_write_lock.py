"""The store's one write lock is held to publish and to remove names, not for what takes long."""

from __future__ import annotations

import functools
import io
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from layerstore import Store
from layerstore.db import staging
from layerstore.db.durability import Durability
from layerstore.images.images import ImageStore
from layerstore.layer import index
from layerstore.oci.digest import VerifyingReader
from layerstore.operations import check, commit, repair, rootfs
from layerstore.operations.gc import Which, collect, prune
from tests.helpers.images import add_image

FILES = {f"d{number}/f": b"%d" % number for number in range(20)}


@pytest.fixture
def slow_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every step that takes long fail in a transaction; return those that were taken."""
    taken: list[str] = []

    def watch(owner: Any, name: str) -> None:
        step: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(step)
        def watched(*args: Any, **options: Any) -> Any:
            assert not store.database.connection.in_transaction, f"{name} holds the write lock"
            taken.append(name)
            return step(*args, **options)

        monkeypatch.setattr(owner, name, watched)

    for owner in (commit, rootfs, repair):
        for name in ("pack", "unpack", "drop_unchanged", "find_unchanged", "open_union"):
            if hasattr(owner, name):
                watch(owner, name)
    watch(Durability, "tree")
    watch(Durability, "file")
    watch(VerifyingReader, "finish")
    watch(check, "compare")
    watch(index, "scan")
    watch(ImageStore, "config")
    watch(staging, "remove_tree")
    watch(shutil, "rmtree")
    return taken


def test_commit_import_check_and_removal(
    store: Store, slow_steps: list[str], tmp_path: Path
) -> None:
    image = add_image(store, FILES, names=["x"])
    container = store.containers.create(image, name="box")
    (container.upper / "new").write_text("x")
    commit.commit(store, container, "y", prune_unchanged=True)
    out = io.BytesIO()
    rootfs.export_container(store, container, out)
    out.seek(0)
    rootfs.import_image(store, out, "z")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "f").write_text("x")
    rootfs.import_image(store, tree)
    store.blobs.put(b"of nothing")
    assert any(finding.harmless for finding in check.check(store))
    repair.repair(store)
    store.containers.remove(store.containers.get(container.id))
    prune(store, Which(labels=(("a", None),)), all_unused=True)
    prune(store, all_unused=True)
    collect(store)
    assert store.images.all() == [] and store.layers.all() == []
    wanted = {"pack", "unpack", "drop_unchanged", "open_union", "tree", "compare", "remove_tree"}
    assert wanted <= set(slow_steps)


def open_blobs() -> set[str]:
    """Return the blobs that this process has open."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {link for link in found if "blobs/sha256" in link}


def test_the_space_of_a_blob_is_freed_after_the_transaction(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [store.blobs.put(b"%d" % number) for number in range(100)]
    unlink = os.unlink
    held = []

    def watched(path: Path) -> None:
        unlink(path)
        assert store.database.connection.in_transaction
        held.append(f"{path} (deleted)" in open_blobs())

    monkeypatch.setattr(os, "unlink", watched)
    assert store.blobs.collect(digests) == digests
    assert held == [True] * 100 and list(store.blobs.all()) == []
    assert open_blobs() == set()
