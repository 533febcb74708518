"""Mount namespaces that still have a mount, and the end of its connection."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mount_tools.mount.holders import Holder, abort_connection, holders
from mount_tools.mount.table import device_on
from tests.helpers.mounts import require_root, run
from tests.helpers.processes import ending
from unionfs.errors import MountError

DEVICE = "0:99"


def make_process(proc: Path, pid: int, namespace: Path, command: str, *points: str) -> None:
    """Make what `holders` reads of a process: `points` are its mounts of DEVICE."""
    folder = proc / str(pid)
    (folder / "ns").mkdir(parents=True)
    os.link(namespace, folder / "ns/mnt")
    (folder / "comm").write_text(command + "\n")
    lines = [f"1 0 {DEVICE} / {point} rw - fuse.pyunion source rw\n" for point in points]
    (folder / "mountinfo").write_text("2 0 8:1 / / rw - ext4 /dev/sda1 rw\n" + "".join(lines))


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Three namespaces, two of which have the device mounted."""
    namespaces = [tmp_path / f"namespace{number}" for number in range(3)]
    for namespace in namespaces:
        namespace.touch()
    made = tmp_path / "proc"
    made.mkdir()
    (made / "self").mkdir()
    make_process(made, 100, namespaces[0], "later", "/a")
    make_process(made, 20, namespaces[0], "first", "/a")
    make_process(made, 30, namespaces[1], "without")
    make_process(made, 40, namespaces[2], "other", "/b\\040c", "/d")
    (made / "50").mkdir()  # has ended meanwhile
    return made


def test_each_namespace_is_named_by_its_lowest_pid(proc: Path, tmp_path: Path) -> None:
    inodes = [(tmp_path / f"namespace{number}").stat().st_ino for number in (0, 2)]
    assert holders(DEVICE, proc) == [
        Holder(20, "first", inodes[0], "/a"),
        Holder(40, "other", inodes[1], "/b c"),
    ]
    assert holders("0:98", proc) == []


def test_the_text_of_a_holder() -> None:
    assert str(Holder(20, "sleep", 4026, "/mnt")) == "pid 20 (sleep) in mnt:[4026] on /mnt"


def test_a_real_namespace_that_was_copied_is_found(tmp_path: Path) -> None:
    require_root()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "source", tmp_path)
    device = device_on(str(tmp_path))
    assert device is not None
    # The line says that the copy of the namespace exists.
    child = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", "echo; read _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with ending(child):
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        run("umount", tmp_path)
        (found,) = [holder for holder in holders(device) if holder.pid == child.pid]
    assert (found.command, found.mount_point) == ("sh", str(tmp_path))


def test_an_abort_is_written_for_the_minor_number(tmp_path: Path) -> None:
    (tmp_path / "99").mkdir()
    (tmp_path / "99/abort").touch()
    abort_connection(DEVICE, tmp_path)
    assert (tmp_path / "99/abort").read_text() == "1"


def test_a_connection_that_is_gone_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """The minor number is far above those that the kernel gives."""
    with pytest.raises(MountError, match="end the processes that hold the mount") as caught:
        abort_connection("0:1048000", tmp_path)
    assert "0:1048000" in str(caught.value)
