"""`mount.pyunion IMAGE DIR`: the upper that goes with the mount, and the one that stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.oci.json_values import Object
from layerstore.oci.run_config import RunConfig
from layerstore.operations.commit import commit
from mount_tools.container.host_config import HostConfig, host_config
from tests.helpers.images import add_image
from tests.helpers.mounts import (
    DEADLINE,
    helper_environment,
    mount_type,
    run,
    wait_until,
)
from tests.helpers.processes import ending


@pytest.fixture
def store(store: Store) -> Store:
    add_image(store, {"file": b"of another"}, names=["other:1"])
    return store


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    point = tmp_path / "point"
    point.mkdir()
    yield point
    if mount_type(point) is not None:
        run("umount", "-l", point)


def helper(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "mount_tools.helper.main", *map(str, words)]


def environment(store: Store) -> dict[str, str]:
    return {**helper_environment(), "PYUNION_ROOT": str(store.root)}


def mount(store: Store, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        helper(*words), env=environment(store), capture_output=True, text=True, timeout=DEADLINE
    )


def names(store: Store) -> list[str]:
    return [container.name for container in store.containers.list()]


@contextmanager
def foreground(store: Store, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(helper("-o", "foreground", *words), env=environment(store))
    with ending(process):
        wait_until(
            lambda: any(found.running for found in store.containers.list()), "it to be mounted"
        )
        yield process


def test_an_upper_that_goes_with_its_mount(store: Store, point: Path) -> None:
    assert mount(store, "box:1", point).returncode == 0
    (container,) = store.containers.list()
    assert container.running and container.auto_remove and container.mount_point == str(point)
    (point / "file").write_text("changed")
    run("umount", point)
    wait_until(lambda: names(store) == [], "its upper to go")


def test_one_that_could_not_be_mounted_leaves_nothing(store: Store, point: Path) -> None:
    """What was made for it is removed, and no process waits for the other."""
    done = mount(store, "-N", "/nosuch", "box:1", point)
    assert done.returncode != 0 and "/nosuch" in done.stderr, done
    assert names(store) == []
    done = mount(store, "-N", "/nosuch", "box:1", point, "-o", "container=kept")
    assert done.returncode != 0 and names(store) == ["kept"]


def test_metacopies_are_for_mounts_that_cannot_be_committed(store: Store, point: Path) -> None:
    for options in ("metacopy=on", "metacopy=on,container=kept"):
        done = mount(store, "box:1", point, "-o", options)
        assert done.returncode != 0 and "has to hold the data" in done.stderr, done
    assert names(store) == ["kept"]
    assert mount(store, "box:1", point, "-o", "metacopy=on,ro").returncode == 0
    run("umount", point)


def test_in_the_foreground_it_can_be_committed_and_ends_as_well(store: Store, point: Path) -> None:
    with foreground(store, "box:1", point) as process:
        (point / "new").write_text("1")
        (container,) = store.containers.list()
        image = commit(store, container).image
        assert image.top is not None
        assert (store.layers.get(image.top).diff / "new").read_text() == "1"
        run("umount", point)
        assert process.wait(DEADLINE) == 0
    assert names(store) == []


def test_an_upper_with_a_name_stays(store: Store, point: Path) -> None:
    for turn in ("1", "2"):
        with foreground(store, "box:1", point, "-o", "container=kept") as process:
            assert (point / "new").exists() == (turn == "2")
            (point / "new").write_text(turn)
            assert mount(store, "box:1", point, "-o", "container=kept").returncode != 0
            run("umount", point)
            assert process.wait(DEADLINE) == 0
    assert names(store) == ["kept"]
    done = mount(store, "other:1", point, "-o", "container=kept")
    assert done.returncode == 1 and "is of the image box:1, not of other:1" in done.stderr


def test_what_an_image_says_of_the_host_is_not_believed(store: Store, point: Path) -> None:
    host: Object = {"Binds": ["/:/host"], "ReadonlyRootfs": True}
    image = add_image(store, {"file": b""}, names=["evil:1"], config={"HostConfig": host})
    assert store.images.config(image).config["HostConfig"] == host
    assert mount(store, "evil:1", point, "-o", "container=kept").returncode == 0
    run("umount", point)
    (container,) = store.containers.list()
    assert host_config(RunConfig(container.config)) == HostConfig()


def test_what_a_killed_mount_left_is_swept_by_the_next(store: Store, point: Path) -> None:
    with foreground(store, "box:1", point) as process:
        (left,) = names(store)
        process.kill()
        process.wait(DEADLINE)
        run("umount", "-l", point)
    assert mount(store, "box:1", point).returncode == 0
    assert left not in names(store) and len(names(store)) == 1


def test_read_only(store: Store, point: Path) -> None:
    assert mount(store, "box:1", point, "-o", "ro").returncode == 0
    with pytest.raises(OSError, match="Read-only"):
        (point / "file").write_text("")
    assert (point / "file").read_text() == "of the image"


def test_nosuid_and_nodev_unless_asked_otherwise(store: Store, point: Path) -> None:
    for options, expected in (
        ("rw", {"nosuid", "nodev"}),
        ("suid,dev", set()),
        ("allow_suid,allow_dev", set()),
    ):
        assert mount(store, "box:1", point, "-o", options).returncode == 0
        shown = run("findmnt", "-no", "VFS-OPTIONS", point).stdout.decode().strip().split(",")
        assert {"nosuid", "nodev"} & set(shown) == expected
        run("umount", point)


def test_a_mount_of_an_image_creates_no_store(tmp_path: Path, point: Path) -> None:
    missing = tmp_path / "typo"
    done = subprocess.run(
        helper("box:1", point),
        env={**helper_environment(), "PYUNION_ROOT": str(missing)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stdout) == (32, "")
    assert f"there is no store at {missing}" in done.stderr
    assert not missing.exists()
