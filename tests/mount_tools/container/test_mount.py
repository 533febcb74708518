"""Containers mounted on a directory: by root and by an ordinary user, once at a time."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerstore import Container, Store
from layerstore.containers.container import socket_path
from layerstore.db.processes import ProcessId
from layerstore.errors import Busy, Conflict, StoreError
from mount_tools.container.mount import mount_container, unmount_container
from mount_tools.container.root_options import container_options
from mount_tools.container.running import refuse_running, wait_for_end
from mount_tools.container.transfer import root_of
from tests.helpers.as_user import NOBODY
from tests.helpers.images import add_image
from tests.helpers.mounts import (
    mount_type,
    run,
    wait_until,
)
from tests.helpers.processes import ending
from tests.helpers.users import as_user, device_mode, give, home_of_a_user


@pytest.fixture
def container(store: Store) -> Container:
    return store.containers.create(store.images.resolve("box:1"), name="box")


@pytest.fixture
def point(tmp_path: Path) -> Path:
    point = tmp_path / "point"
    point.mkdir()
    return point


@contextmanager
def mounted(store: Store, container: Container, point: Path) -> Iterator[Container]:
    mount_container(store, container, str(point))
    try:
        yield store.containers.get(container.id)
    finally:
        run("umount", "-l", point, check=False)
        now = store.containers.get(container.id)
        assert not now.running or wait_for_end(ProcessId(now.pid or 0, now.pid_start or 0), 60)


def test_the_row_says_what_is_mounted_and_who_serves_it(
    store: Store, container: Container, point: Path
) -> None:
    with mounted(store, container, point) as found:
        assert found.running and found.mount_point == str(point)
        assert (point / "file").read_text() == "of the image"
        assert stat.S_ISSOCK(socket_path(found.directory).stat().st_mode)
        (point / "new").write_text("1")
        unmount_container(found)
        # It waits for the daemon, which has written all of it.
        after = store.containers.get(container.id)
        assert after == container
        assert (container.upper / "new").read_text() == "1"
    with pytest.raises(StoreError, match="box is not mounted"):
        unmount_container(after)


def test_a_link_in_place_of_its_mount_point_is_not_followed(
    store: Store, container: Container, tmp_path: Path
) -> None:
    """The user of a directory above may rename it; root's `cp` wrote where the link leads."""
    point = tmp_path / "theirs/point"
    point.mkdir(parents=True)
    mount_container(store, container, str(point))
    now = store.containers.get(container.id)
    with root_of(store, now) as fd:
        assert os.listdir(fd) == ["file"]
    point.parent.rename(tmp_path / "renamed")
    point.parent.mkdir()
    point.symlink_to("/")
    try:
        with pytest.raises(StoreError, match="is not mounted on"), root_of(store, now):
            pass
    finally:
        point.unlink()
        run("umount", tmp_path / "renamed/point")
        assert wait_for_end(ProcessId(now.pid or 0, now.pid_start or 0), 60)


def test_a_container_is_mounted_once(store: Store, container: Container, point: Path) -> None:
    with mounted(store, container, point) as found:
        with pytest.raises(Conflict, match=f"mounted on {point}: unmount it first"):
            mount_container(store, container, str(point))
        with pytest.raises(Conflict, match="mounted on"):
            refuse_running(found)
    refuse_running(store.containers.get(container.id))


def test_one_in_use_is_unmounted_where_that_is_wanted(
    store: Store, container: Container, point: Path
) -> None:
    with mounted(store, container, point) as found:
        with ending(subprocess.Popen(["sleep", "1000"], cwd=point)):
            with pytest.raises(StoreError, match="in use"):
                unmount_container(found)
            assert mount_type(point) == "fuse.pyunion"
            with pytest.raises(Busy, match="still open"):
                unmount_container(found, detach=True)
            assert mount_type(point) is None
        wait_until(lambda: not store.containers.get(container.id).running, "the daemon to end")


def test_one_whose_daemon_was_killed_is_mounted_again(
    store: Store, container: Container, point: Path
) -> None:
    with mounted(store, container, point) as found:
        (point / "new").write_text("1")
        assert found.pid is not None
        os.kill(found.pid, signal.SIGKILL)
        assert wait_for_end(ProcessId(found.pid, found.pid_start or 0), 20)
        with pytest.raises(StoreError, match="server has died; clear it with umount -l"):
            mount_container(store, container, str(point))
        run("umount", "-l", point)
        with mounted(store, container, point):
            assert (point / "new").read_text() == "1"


def test_what_cannot_be_mounted_changes_nothing(
    store: Store, container: Container, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="does not exist; create it"):
        mount_container(store, container, str(tmp_path / "nosuch"))
    assert store.containers.get(container.id).status == "created"


def test_an_image_without_layers_has_something_to_lie_on(store: Store, point: Path) -> None:
    add_image(store, names=["empty:1"])
    container = store.containers.create(store.images.resolve("empty:1"), name="empty")
    assert len(container_options(store, container).union.lowers) == 1
    with mounted(store, container, point):
        (point / "first").touch()
        assert os.listdir(point) == ["first"]


# -- as an ordinary user --


@pytest.fixture
def closed_device() -> Iterator[None]:
    with device_mode(0o600):
        yield


@pytest.fixture
def open_device() -> Iterator[None]:
    with device_mode(0o666):
        yield


@pytest.fixture
def home() -> Iterator[Path]:
    with home_of_a_user() as home:
        (home / "root/dir").mkdir()
        (home / "root/file").write_text("low\n")
        (home / "root/dir/old").write_text("old\n")
        give(home)
        yield home


@pytest.mark.usefixtures("open_device")
def test_an_ordinary_user_mounts_changes_commits_and_mounts_again(home: Path) -> None:
    point = home / "point"
    done = as_user(
        home,
        f"pyunion import {home}/root one:1",
        "pyunion create --name box one:1",
        f"pyunion mount box {point}",
        f"$cd {point}; echo more >> file; rm -r dir; mkdir dir; ln file link; echo new > dir/new",
        "pyunion commit box made:1",
        f"$echo later > {point}/later",
        "pyunion diff one:1 made:1",
        "pyunion umount box",
        f"$test -z $(ls {point})",
        f"pyunion mount box {point}",
        f"$cd {point}; cat later link; ls dir; stat -c %u:%h link",
        f"$fusermount3 -u {point}",
        f"mount.pyunion made:1 {point} -o rw",
        f"$cd {point}; cat link; ls; echo x > gone-with-the-mount",
        f"$fusermount3 -u {point}",
        "pyunion check",
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    middle = lines.index("C /dir")
    assert lines[middle : middle + 5] == [
        "C /dir",
        "A /dir/new",
        "D /dir/old",
        "C /file",
        "A /link",
    ]
    shown = ["box", "later", "low", "more", "new", f"{NOBODY}:2", "low", "more", "dir", "file"]
    assert lines[middle + 5 : middle + 5 + len(shown)] == shown
    assert mount_type(point) is None


@pytest.mark.usefixtures("closed_device")
def test_a_user_who_may_not_open_the_device_is_told_so_at_once(home: Path) -> None:
    """For an image too, whose container nobody else is to remove: once it waited for itself."""
    made = as_user(home, f"pyunion import {home}/root one:1", "pyunion create --name box one:1")
    assert made.returncode == 0, made
    for command in ("pyunion mount box", "mount.pyunion one:1"):
        done = as_user(home, f"{command} {home}/point")
        assert done.returncode != 0 and "/dev/fuse" in done.stderr, done
        assert "Traceback" not in done.stderr
    assert as_user(home, "pyunion ps -aq --no-trunc").stdout.split() == made.stdout.split()[1:]


def test_a_mount_leaves_what_is_known_of_the_last_run(
    store: Store, container: Container, point: Path
) -> None:
    store.containers.started(container, os.getpid())
    ran = store.containers.finished(container, 3)
    mount_container(store, container, str(point))
    unmount_container(store.containers.get(container.id))
    wait_until(lambda: not store.containers.get(container.id).running, "the daemon to end")
    assert store.containers.get(container.id) == ran


@pytest.fixture
def open_point() -> Iterator[Path]:
    """A mount point that every user can reach."""
    with tempfile.TemporaryDirectory(prefix="pyunion-test-") as scratch:
        Path(scratch).chmod(0o755)
        point = Path(scratch, "point")
        point.mkdir()
        yield point


def as_nobody(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    return run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command, check=False)


@pytest.mark.parametrize(
    ("options", "suid", "dev"),
    [([], False, False), (["defaults"], False, False), (["suid", "dev"], True, True)],
)
def test_suid_programs_and_devices_of_an_image_do_nothing_unless_asked_for(
    store: Store,
    container: Container,
    open_point: Path,
    options: list[str],
    suid: bool,
    dev: bool,
) -> None:
    mount_container(store, container, str(open_point), options)
    try:
        shutil.copy("/usr/bin/id", open_point / "id")
        (open_point / "id").chmod(0o4755)
        os.mknod(open_point / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (open_point / "null").chmod(0o666)
        assert as_nobody(open_point / "id", "-u").stdout == (b"0\n" if suid else b"65534\n")
        assert (as_nobody("cat", open_point / "null").returncode == 0) == dev
    finally:
        unmount_container(store.containers.get(container.id))


def test_a_mount_for_root_alone(store: Store, container: Container, open_point: Path) -> None:
    for options, seen in (([], True), (["noallow_other"], False)):
        mount_container(store, container, str(open_point), options)
        try:
            assert (as_nobody("cat", open_point / "file").returncode == 0) == seen
        finally:
            unmount_container(store.containers.get(container.id))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["lowerdir=/etc"], "layers are the container's"),
        (["container=other"], "layers are the container's"),
        (["foreground"], "a daemon serves"),
        (["metacopy=on"], "has to hold the data"),
        (["nosuch"], "unknown option"),
    ],
)
def test_options_that_a_container_has_already(
    store: Store, container: Container, point: Path, options: list[str], says: str
) -> None:
    with pytest.raises(StoreError, match=says):
        mount_container(store, container, str(point), options)
    assert mount_type(point) is None


def test_a_log_elsewhere(
    store: Store, container: Container, point: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mount_container(store, container, str(point), ["log=here,ro"])
    unmount_container(store.containers.get(container.id))
    assert "mounted on" in (tmp_path / "here").read_text()
