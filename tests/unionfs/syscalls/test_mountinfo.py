"""The mount table as the kernel writes it, escapes included."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.mounts import require_root, run
from unionfs.syscalls.mountinfo import device_on, parse_mount, read_mounts, read_points


def test_every_field_of_a_line() -> None:
    line = (
        rb"36 35 98:0 /mnt\0401 /mnt2\134x rw,noatime master:1 propagate_from:2 - "
        rb"ext3 /dev/root\011 rw,errors=continue,upperdir=/a\040b\054c"
    )
    mount = parse_mount(line)
    assert (mount.mount_id, mount.parent_id, mount.device) == (36, 35, "98:0")
    assert (mount.root, mount.mount_point) == (b"/mnt 1", b"/mnt2\\x")
    assert mount.options == (b"rw", b"noatime")
    assert (mount.fs_type, mount.source) == (b"ext3", b"/dev/root\t")
    assert mount.super_options == (b"rw", b"errors=continue", b"upperdir=/a b,c")


def test_an_empty_source_is_a_field_of_its_own() -> None:
    mount = parse_mount(b"1 2 0:5 / /x rw - tmpfs  rw,size=1k")
    assert (mount.fs_type, mount.source) == (b"tmpfs", b"")
    assert mount.super_options == (b"rw", b"size=1k")


@pytest.mark.parametrize("name", ["a b", "a\tb", "a\nb", "a\\040b", "ä"])
def test_the_mount_point_of_a_real_mount(tmp_path: Path, name: str) -> None:
    require_root()
    point = tmp_path / name
    point.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "some where", point)
    try:
        (mount,) = [found for found in read_mounts() if found.mount_point == os.fsencode(point)]
        assert (mount.fs_type, mount.source) == (b"tmpfs", b"some where")
        assert b"size=64k" in mount.super_options
        assert mount in read_mounts(of_type=lambda fs_type: fs_type == b"tmpfs")
        assert mount not in read_mounts(of_type=lambda fs_type: fs_type == b"ext4")
        assert device_on(os.fsencode(point)) == mount.device
        where, line = read_points()[mount.mount_id]
        assert (where, parse_mount(line)) == (os.fsencode(point), mount)
        assert device_on(os.fsencode(point) + b"x") is None
    finally:
        run("umount", point)
