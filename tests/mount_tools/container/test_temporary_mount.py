"""The mount for copies: shared by all that copy at the time, and removed by the last one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.containers.container import Container
from layerstore.errors import NotFound
from mount_tools.container import temporary_mount as temporary_mount_module
from mount_tools.container.mount import mount_container, unmount_container
from mount_tools.container.temporary_mount import may_mount, place_of, temporary_mount
from mount_tools.container.transfer import root_of
from tests.helpers import children
from tests.helpers.images import add_image
from tests.helpers.mounts import require_fuse, require_root


@pytest.fixture
def box(empty_store: Store) -> Container:
    require_root()
    require_fuse()
    image = add_image(empty_store, {"file": b"content"})
    return empty_store.containers.create(image, name="box")


def is_mounted(store: Store, box: Container) -> bool:
    return store.containers.get(box.id).running


def read(root: int) -> bytes:
    fd = os.open("file", os.O_RDONLY, dir_fd=root)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


@pytest.mark.parametrize("stays", ["first", "second"])
def test_the_last_copy_unmounts(empty_store: Store, box: Container, stays: str) -> None:
    # `box` says that it is not mounted, as it was when each of them read it.
    first, second = root_of(empty_store, box), root_of(empty_store, box)
    roots = [first.__enter__(), second.__enter__()]
    if stays == "first":
        first, second = second, first
        roots.reverse()
    first.__exit__(None, None, None)
    assert is_mounted(empty_store, box) and read(roots[1]) == b"content"
    second.__exit__(None, None, None)
    assert not is_mounted(empty_store, box) and os.listdir(place_of(box)) == []


def test_copies_side_by_side_all_succeed(empty_store: Store, box: Container) -> None:
    def copy() -> None:
        with Store.open(empty_store.root, sync=False) as store:
            for _ in range(5):
                with root_of(store, box) as root:
                    assert read(root) == b"content"

    pids = [children.spawn(copy) for _ in range(3)]
    assert [children.wait(pid) for pid in pids] == [0] * 3
    assert not is_mounted(empty_store, box)


def test_the_mount_of_a_killed_copy_is_taken_over(empty_store: Store, box: Container) -> None:
    reading, writing = os.pipe()

    def hang() -> None:
        with Store.open(empty_store.root, sync=False) as store, root_of(store, box):
            os.write(writing, b"!")
            signal.pause()

    pid = children.spawn(hang)
    assert os.read(reading, 1) == b"!"
    os.kill(pid, signal.SIGKILL)
    children.wait(pid)
    left = empty_store.containers.get(box.id)
    assert left.running and may_mount(left)
    with root_of(empty_store, left) as root:
        assert read(root) == b"content"
    assert not is_mounted(empty_store, box)
    for fd in (reading, writing):
        os.close(fd)


def test_a_container_that_is_mounted_meanwhile_is_used_as_it_is(
    empty_store: Store, box: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = tmp_path / "point"
    point.mkdir()

    def too_late(store: Store, container: Container, directory: str) -> None:
        mount_container(store, container, os.fspath(point))
        mount_container(store, container, directory)

    monkeypatch.setattr(temporary_mount_module, "mount_container", too_late)
    with root_of(empty_store, box) as root:
        assert read(root) == b"content"
    now = empty_store.containers.get(box.id)
    assert now.mount_point == os.fspath(point), "it belongs to who mounted it"
    unmount_container(now)


def test_a_container_that_was_removed_is_not_mounted(empty_store: Store, box: Container) -> None:
    empty_store.containers.remove(box)
    with pytest.raises(NotFound), temporary_mount(empty_store, box):
        pass
