"""Which path of a container is restored, and that its mount is gone afterwards."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.errors import StoreError
from mount_tools.container.restoring import restorer
from unionfs.syscalls.mountinfo import read_mounts


def test_a_stopped_container_is_mounted_meanwhile(store: Store) -> None:
    container = store.containers.create(store.images.resolve("box:1"), name="box")
    upper = container.upper
    os.mknod(upper / "file", stat.S_IFCHR, os.makedev(0, 0))
    (upper / "new").mkdir()
    (upper / "new/in").write_text("in")
    with restorer(store, container) as work:
        assert [*work.restore("/file", dry_run=True)] == ["/file"]
        assert [*work.restore("file", dry_run=False)] == ["/file"]
        assert [*work.restore("//new/../file", dry_run=False)] == []
        assert [*work.restore("/new/", dry_run=False)] == ["/new"]
        with pytest.raises(StoreError, match="neither the image nor the container has /new"):
            next(work.restore("/new", dry_run=False))
    assert list(upper.iterdir()) == []
    assert not [
        mount for mount in read_mounts() if os.fsencode(Path(store.root)) in mount.mount_point
    ]
