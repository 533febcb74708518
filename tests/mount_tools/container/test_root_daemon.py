"""A root and the daemon of one that is mounted already; test_root_serving has the keeper's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.errors import StoreError
from mount_tools.container.root_daemon import FuseRoot, serve_root
from mount_tools.container.root_options import root_order
from mount_tools.mount.fuse import open_device
from tests.helpers.mounts import mount_type, run


def test_a_daemon_serves_what_is_mounted(store: Store) -> None:
    container = store.containers.create(store.images.resolve("box:1"))
    point = container.directory / "merged"
    point.mkdir()
    fuse = open_device()
    root = FuseRoot(fuse, str(point), root_order(store, container).options())
    assert root.mount() == str(point)
    serve_root(root)
    os.close(fuse)
    assert (point / "file").read_text() == "of the image"
    assert mount_type(point) == "fuse.pyunion"
    run("umount", point)
    os.wait()


def test_why_a_daemon_cannot_serve_is_a_sentence(store: Store, tmp_path: Path) -> None:
    container = store.containers.create(store.images.resolve("box:1"))
    order = root_order(store, container)._replace(lowers=(str(tmp_path / "nosuch"),))
    fuse = open_device()
    with pytest.raises(StoreError, match="nosuch"):
        serve_root(FuseRoot(fuse, str(tmp_path), order.options()))
    os.close(fuse)


def test_what_cannot_be_mounted_is_a_sentence(tmp_path: Path, store: Store) -> None:
    container = store.containers.create(store.images.resolve("box:1"))
    with open(os.devnull) as null:
        root = FuseRoot(null.fileno(), str(tmp_path), root_order(store, container).options())
        with pytest.raises(StoreError, match=str(tmp_path)):
            root.mount()
