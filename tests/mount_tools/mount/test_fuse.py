"""The mount options that the kernel gets, and the messages if it refuses them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mount_tools.mount import fuse as fuse_mount
from mount_tools.mount.options import parse_options
from tests.helpers.mounts import (
    mount_type,
    mounted,
    require,
    require_fuse,
    require_root,
    run,
    wait_until,
)
from unionfs.errors import MountBusy, MountError

OPTIONS = parse_options(["lowerdir=/l"], privileged=True)


def test_a_mount_that_nobody_serves_can_be_undone(tmp_path: Path) -> None:
    require_fuse()
    require_root()
    mount = fuse_mount.mount_fuse(str(tmp_path), OPTIONS)
    try:
        assert mount_type(tmp_path) == "fuse.pyunion"
        assert not os.get_inheritable(mount.fd)
        mount.unmount()
        assert mount_type(tmp_path) is None
        mount.unmount()  # says so in the log and does nothing
    finally:
        os.close(mount.fd)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOENT, "modprobe fuse"),
        (errno.EACCES, "chmod 0666"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_the_device_cannot_be_opened(
    code: int, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_open(path: str, flags: int) -> int:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "open", no_open)
    with pytest.raises(MountError, match=says):
        fuse_mount.mount_fuse(str(tmp_path), OPTIONS)


def test_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    require_fuse()
    require_root()
    fds = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MountError, match=r"refused to mount on .*No such file"):
        fuse_mount.mount_fuse(str(tmp_path / "absent"), OPTIONS)
    assert len(os.listdir("/proc/self/fd")) == fds


def fake_fusermount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "fusermount3"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(fuse_mount, "FUSERMOUNT", str(program))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_fusermount_gets_every_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_fusermount(tmp_path, monkeypatch, f'echo "$@" > {tmp_path}/said')
    options = parse_options(
        ["ro,noexec,noatime,suid,dev,allow_other,fsname=a\\,b,lowerdir=/l"], privileged=False
    )
    with pytest.raises(MountError, match="passed no descriptor"):
        fuse_mount.mount_fuse("/point", options)
    words = "default_permissions,subtype=pyunion,fsname=a\\,b,ro,noexec,noatime,allow_other"
    assert (tmp_path / "said").read_text() == f"-o {words} -- /point\n"


def test_what_fusermount_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_fusermount(tmp_path, monkeypatch, "echo 'fusermount3: not\nfor you' >&2; exit 1")
    with pytest.raises(MountError, match="fusermount3: not for you"):
        fuse_mount.mount_fuse("/point", OPTIONS)
    fake_fusermount(tmp_path, monkeypatch, "exit 3")
    with pytest.raises(MountError, match="failed with status 3"):
        fuse_mount.mount_fuse("/point", OPTIONS)


def test_a_device_that_is_not_for_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a chroot without udev, which gives it the mode 0666."""
    fake_fusermount(tmp_path, monkeypatch, "echo 'fusermount3: Permission denied' >&2; exit 1")
    device = tmp_path / "fuse"
    monkeypatch.setattr(fuse_mount, "DEVICE", str(device))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(MountError, match=r"denied$"):
        fuse_mount.mount_fuse("/point", OPTIONS)
    device.touch()
    with pytest.raises(MountError, match=rf"denied: {device} .* chmod 0666 {device}$"):
        fuse_mount.mount_fuse("/point", OPTIONS)


def test_without_fusermount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse_mount, "FUSERMOUNT", "/no/such/fusermount3")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MountError, match="Debian package fuse3"):
        fuse_mount.mount_fuse("/point", OPTIONS)


def test_only_fuse_descriptors_are_adopted(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file, pytest.raises(MountError, match="not /dev/fuse"):
        fuse_mount.adopt(file.fileno())
    with pytest.raises(MountError, match="not /dev/fuse"):
        fuse_mount.adopt(12345)


def test_an_adopted_mount_is_not_ours_to_unmount() -> None:
    require_fuse()
    fd = os.open("/dev/fuse", os.O_RDWR)
    try:
        with pytest.raises(MountError, match="umount DIR"):
            fuse_mount.adopt(fd).unmount()
    finally:
        os.close(fd)


def test_a_mount_in_use_is_told_apart_by_type(tmp_path: Path) -> None:
    require_fuse()
    require_root()
    run("mount", "-t", "tmpfs", "tmpfs", tmp_path)
    with open(tmp_path / "held", "w"):
        with pytest.raises(MountBusy, match="fuser -vm"):
            fuse_mount.mounted_on(str(tmp_path)).unmount(detach=False)
        assert mount_type(tmp_path) == "tmpfs"
        fuse_mount.mounted_on(str(tmp_path)).unmount()
    assert mount_type(tmp_path) is None
    with pytest.raises(MountError, match="not known where"):
        fuse_mount.mounted_on(str(tmp_path)).unmount()


def test_a_live_mount_reads_ahead(tmp_path: Path) -> None:
    require_root()
    lower = tmp_path / "lower"
    lower.mkdir()
    with mounted([lower], options=["transport=dev_fuse"]) as root:
        device = root.stat().st_dev
        path = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        require(os.access(path, os.W_OK), "/sys is not writable here")
        wait_until(lambda: path.read_text() == "512\n", "the kernel to read ahead")


def test_a_mount_without_a_known_device_reads_as_the_kernel_likes() -> None:
    fuse_mount.FuseMount(-1, "/", None).read_ahead()
