"""What the daemon of a root does before it serves; test_root_daemon has the rest."""

from __future__ import annotations

import os
import socket

from layerstore import Store
from mount_tools.container.root_options import Point, root_order
from mount_tools.container.root_serving import serve_order
from tests.helpers.children import run


def test_points_are_made_and_the_lock_is_given_back_before_it_waits_for_the_mount(
    store: Store,
) -> None:
    container = store.containers.create(store.images.resolve("box:1"))
    order = root_order(store, container)._replace(points=(Point("/etc/new", False),))
    mounted, keeper = socket.socketpair()
    keeper.close()  # the process that was to mount it has ended

    def serve() -> None:
        fuse = os.open("/dev/fuse", os.O_RDWR)
        with store.containers.lock(container) as lock:
            outcome = serve_order(order, fuse, os.dup(mounted.fileno()), os.dup(lock), lambda: None)
        assert outcome.status != 0 and "has ended" in outcome.message

    run(serve)  # a daemon is a process of its own
    mounted.close()
    made = container.directory / "points/diff"
    assert (made / "etc/new").is_file() and (made / "proc").is_dir()
