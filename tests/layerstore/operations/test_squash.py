"""squash: several layers become one, which changes the base as they did together."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from layerstore import Digest, Image, Store
from layerstore.layer.flatten import write_flat_tar
from layerstore.oci.documents import ImageConfig
from layerstore.operations.check import check
from layerstore.operations.commit import commit
from layerstore.operations.squash import squash
from tests.helpers.images import add_image
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union
from unionfs.types import ROOT_NODEID

pytestmark = pytest.mark.usefixtures("as_root")

BASE = {"etc/motd": b"hello\n", "etc/gone": b"x", "dir/a": b"a", "dir/b": b"b", "same": b"s"}


@pytest.fixture
def base(store: Store) -> Image:
    return add_image(store, BASE, names=["base:1"])


def with_layers(store: Store, base: Image) -> Image:
    """Return an image of three more layers, which change what the base and each other have."""
    container = store.containers.create(base, name="box")
    upper = container.upper
    (upper / "etc").mkdir()
    (upper / "etc/motd").write_text("two")
    (upper / "first").write_text("1")
    (upper / "empty").mkdir(mode=0o700)
    commit(store, container, "two")
    config = UnionConfig(
        lowers=tuple(
            os.fsencode(path)
            for path in store.containers.lowers(store.containers.get(container.id))
        ),
        upper=os.fsencode(upper),
        work=os.fsencode(container.work),
    )
    union = open_union(config)
    try:
        etc, folder = union.lookup(ROOT_NODEID, b"etc"), union.lookup(ROOT_NODEID, b"dir")
        assert etc is not None and folder is not None
        union.unlink(etc.nodeid, b"gone")
        union.unlink(ROOT_NODEID, b"first")
        union.rename(ROOT_NODEID, b"dir", ROOT_NODEID, b"moved", 0)
    finally:
        union.close()
    return commit(store, container, "three").image


def tree(store: Store, top: Digest | None) -> list[str]:
    """Return what the merged tree of a chain has, without times."""
    import io
    import tarfile

    out = io.BytesIO()
    write_flat_tar([layer.diff for layer in store.layers.chain(top)], out)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        found = []
        for member in tar:
            reader = tar.extractfile(member) if member.isfile() else None
            data = b"" if reader is None else reader.read()
            found.append(f"{member.name} {member.mode:o} {member.uid} {data!r}")
        return sorted(found)


def squashed(store: Store, image: Image, base: Image | None) -> ImageConfig:
    layers = 0 if base is None else 1
    return squash(
        store,
        store.images.config(image),
        layers=layers,
        history=layers,
        base=None if base is None else base.id,
        created_ns=5,
    )


@pytest.mark.parametrize("scratch", [False, True])
def test_the_tree_is_the_same_and_the_layers_are_one(
    store: Store, base: Image, scratch: bool
) -> None:
    image = with_layers(store, base)
    before = tree(store, image.top)
    assert "moved/a 644 0 b'a'" in before and not any("gone" in line for line in before)
    with store.leases.lease("work", "test"):
        config = squashed(store, image, None if scratch else base)
        assert len(config.diff_ids) == (1 if scratch else 2)
        assert tree(store, config.chain[-1]) == before
        again = squashed(store, image, None if scratch else base)
        assert again.diff_ids == config.diff_ids
        store.images.add(config.data)
    assert check(store) == []


def test_only_what_changed_is_in_the_layer(store: Store, base: Image) -> None:
    image = with_layers(store, base)
    with store.leases.lease("work", "test"):
        config = squashed(store, image, base)
        diff = store.layers.get(config.chain[-1]).diff
        names = sorted(str(path.relative_to(diff)) for path in diff.rglob("*"))
        assert names == [
            "dir", "empty", "etc", "etc/gone", "etc/motd", "moved", "moved/a", "moved/b",
        ]  # fmt: skip
        store.images.add(config.data)


def test_the_history_says_what_was_merged(store: Store, base: Image) -> None:
    image = with_layers(store, base)
    with store.leases.lease("work", "test"):
        config = squashed(store, image, base)
        scratch = squashed(store, image, None)
        for one in (config, scratch):
            store.images.add(one.data)
    old = store.images.config(image).history
    assert [entry.created_by for entry in config.history[:-1]] == [
        entry.created_by for entry in old
    ]
    assert [entry.empty_layer for entry in config.history] == [False, True, True, False]
    assert config.history[-1].comment == f"merge {image.id} to {base.id}"
    assert config.created == "1970-01-01T00:00:00.000000005Z"
    assert scratch.history[-1].comment == f"create new from {image.id}"


def test_a_change_that_was_taken_back_makes_no_layer(store: Store, base: Image) -> None:
    container = store.containers.create(base, name="box")
    upper = container.upper
    (upper / "new").write_text("n")
    commit(store, container, "two")
    shutil.rmtree(upper, ignore_errors=False)
    Path(upper).mkdir()
    os.mknod(upper / "new", 0o20000, 0)
    image = commit(store, container, "three").image
    with store.leases.lease("work", "test"):
        config = squashed(store, image, base)
        assert config.diff_ids == store.images.config(base).diff_ids
        assert config.history[-1].empty_layer
        store.images.add(config.data)
