"""The daemon of a root, begun but not mounted; test_run has those that serve."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.errors import StoreError
from mount_tools.container.prepared_daemon import PreparedDaemon
from mount_tools.container.root_daemon import FuseRoot, RootDaemon, daemon_of
from mount_tools.container.root_options import root_order
from mount_tools.mount.fuse import open_device
from tests.helpers.mounts import mount_type, run


def begun(store: Store, fuse: int, *, prepared: bool) -> tuple[RootDaemon, FuseRoot]:
    """Return the daemon of a new container's root, which is not mounted yet."""
    container = store.containers.create(store.images.resolve("box:1"))
    order = root_order(store, container)
    point = container.directory / "merged"
    point.mkdir()
    with store.containers.lock(container) as lock:
        daemon = daemon_of(order, fuse, lock, PreparedDaemon() if prepared else None)
    return daemon, FuseRoot(fuse, str(point), order.options())


@pytest.mark.parametrize("prepared", [False, True])
def test_it_serves_what_is_mounted(store: Store, prepared: bool) -> None:
    fuse = open_device()
    daemon, root = begun(store, fuse, prepared=prepared)
    point = Path(root.mount())
    os.close(fuse)
    daemon.serve()
    assert (point / "file").read_text() == "of the image"
    assert mount_type(point) == "fuse.pyunion"
    run("umount", point)
    daemon.await_end()


@pytest.mark.parametrize("prepared", [False, True])
def test_one_whose_root_is_never_mounted_says_so(store: Store, prepared: bool) -> None:
    fuse = open_device()
    daemon, _ = begun(store, fuse, prepared=prepared)
    daemon.cancel()
    daemon.cancel()
    daemon, _ = begun(store, fuse, prepared=prepared)
    os.close(fuse)
    with pytest.raises(StoreError, match="mount"):
        daemon.serve()


def test_what_cannot_be_mounted_is_a_sentence(tmp_path: Path, store: Store) -> None:
    container = store.containers.create(store.images.resolve("box:1"))
    with open(os.devnull) as null:
        root = FuseRoot(null.fileno(), str(tmp_path), root_order(store, container).options())
        with pytest.raises(StoreError, match=str(tmp_path)):
            root.mount()
