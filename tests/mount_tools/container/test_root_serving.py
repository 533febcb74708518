"""A root that its keeper serves, in threads; test_run has the containers on it.

The process that serves is a child of the test: none may look at a mount of its own.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from unittest.mock import patch

import pytest

from layerstore import Store
from layerstore.containers.container import Container
from layerstore.errors import StoreError
from mount_tools.container.root_daemon import FuseRoot
from mount_tools.container.root_options import Point, RootOrder, root_order
from mount_tools.container.root_serving import RootServer
from mount_tools.daemon.detach import BUG
from mount_tools.daemon.handover import is_locked
from mount_tools.daemon.open_files import ROOM
from mount_tools.mount.fuse import open_device
from tests.helpers.children import run, spawn, wait
from tests.helpers.descriptors import room_for_files
from tests.helpers.mounts import mount_type
from tests.helpers.mounts import run as run_program
from unionfs.syscalls.mount import MNT_DETACH, umount


@pytest.fixture
def box(store: Store) -> Container:
    container = store.containers.create(store.images.resolve("box:1"))
    (container.directory / "merged").mkdir()
    return container


def locked(directory: bytes) -> bool:
    fd = os.open(directory, os.O_RDONLY)
    try:
        return is_locked(fd)
    finally:
        os.close(fd)


def serving(order: RootOrder, point: Path, after: Callable[[], None] = lambda: None) -> int:
    """Serve `order` on `point` in a child, once `after` has looked there; return its pid."""
    live, say = os.pipe()

    def serve() -> None:
        fuse = open_device()
        server = RootServer(order, fuse)
        FuseRoot(fuse, str(point), order.options()).mount()
        server.serve()
        os.close(say)
        server.stay()
        after()

    pid = spawn(serve)
    os.close(say)
    os.read(live, 1)
    os.close(live)
    return pid


def test_its_process_has_room_for_many_files_before_it_has_threads(
    store: Store, box: Container
) -> None:
    def work() -> None:
        before = room_for_files(os.getpid())
        refused = patch.object(Thread, "start", side_effect=RuntimeError("no threads"))
        with refused, pytest.raises(StoreError, match="no thread can be started"):
            RootServer(root_order(store, box), open_device())
        assert before < ROOM <= room_for_files(os.getpid())

    run(work)


@pytest.mark.parametrize("transport", ["dev_fuse", "pyfuse3"])
def test_a_root_is_served_until_it_is_unmounted(
    store: Store, box: Container, transport: str
) -> None:
    if transport == "pyfuse3":
        pytest.importorskip("pyfuse3")
    point = box.directory / "merged"
    order = root_order(store, box, transport=transport)

    def after() -> None:
        assert os.umask(0o22) == 0o22, "the umask is that of its own threads"
        assert not locked(os.fsencode(order.upper))
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())

    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    umask = os.umask(0o22)
    try:
        pid = serving(order, point, after)
    finally:
        os.umask(umask)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert (point / "file").read_text() == "of the image"
    assert mount_type(point) == "fuse.pyunion"
    assert locked(os.fsencode(order.upper))
    os.kill(pid, signal.SIGTERM)  # which is the main thread's, and blocked there
    run_program("touch", "-m", point / "new")
    os.chmod(point / "new", 0o666)
    run_program("umount", point)
    assert wait(pid) == 0
    assert stat.S_IMODE(os.stat(Path(order.upper) / "new").st_mode) == 0o666


def test_one_whose_root_is_never_mounted_is_given_up(store: Store, box: Container) -> None:
    order = root_order(store, box)

    def serve() -> None:
        fuse = open_device()
        server = RootServer(order, fuse)
        server.cancel()
        server.stay()
        server.cancel()
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(fuse)
        assert not locked(os.fsencode(order.upper))

    run(serve)


def test_what_cannot_be_served_is_a_sentence(store: Store, box: Container, tmp_path: Path) -> None:
    order = root_order(store, box)._replace(lowers=(str(tmp_path / "nosuch"),))

    def serve() -> None:
        server = RootServer(order, open_device())
        with pytest.raises(StoreError, match="nosuch"):
            server.serve()
        server.cancel()

    run(serve)


def test_a_root_that_is_unmounted_before_it_is_served_is_a_sentence(
    store: Store, box: Container
) -> None:
    """Its mount namespace goes with the process that made it."""
    order, point = root_order(store, box), box.directory / "merged"

    def serve() -> None:
        fuse = open_device()
        server = RootServer(order, fuse)
        FuseRoot(fuse, str(point), order.options()).mount()
        umount(os.fsencode(point), MNT_DETACH)
        with pytest.raises(StoreError, match="unmounted before it was served"):
            server.serve()
        server.cancel()

    run(serve)


def test_mount_points_are_made_before_it_waits_for_the_mount(store: Store, box: Container) -> None:
    order = root_order(store, box)._replace(points=(Point("/etc/new", False),))
    pid = serving(order, box.directory / "merged")
    assert (box.directory / "merged/etc/new").is_file()
    run_program("umount", box.directory / "merged")
    assert wait(pid) == 0
    made = box.directory / "points/diff"
    assert (made / "etc/new").is_file() and (made / "proc").is_dir()
    assert not (Path(order.upper) / "etc").exists()


def test_a_process_that_cannot_serve_any_more_ends(store: Store, box: Container) -> None:
    """Otherwise callers that wait for an answer would wait for ever."""
    point = box.directory / "merged"
    with patch("mount_tools.daemon.serve.joined", lambda _running: False):
        pid = serving(root_order(store, box), point)
    assert wait(pid) == BUG
    with pytest.raises(OSError) as caught:
        os.stat(point / "file")
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED)
    run_program("umount", point)


def test_without_a_thread_nothing_is_served(store: Store, box: Container) -> None:
    fuse = open_device()
    with (
        patch.object(Thread, "start", side_effect=RuntimeError("no more")),
        pytest.raises(StoreError, match="no thread can be started: no more"),
    ):
        RootServer(root_order(store, box), fuse)
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fuse)


def test_a_thread_that_cannot_begin_is_a_sentence(store: Store, box: Container) -> None:
    """The keeper, which waits until it serves, must not wait for ever."""
    order = root_order(store, box)

    def serve() -> None:
        refused = PermissionError(errno.EPERM, "not allowed")
        with patch("mount_tools.container.root_serving.unshare", side_effect=refused):
            server = RootServer(order, open_device())
            with pytest.raises(StoreError, match="not allowed"):
                server.serve()

    run(serve)
