"""The type of a filesystem."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.helpers.mounts import kernel_overlay, mounted
from tests.helpers.unions import errno_of
from unionfs.syscalls.statfs import OVERLAYFS, filesystem_type, is_network_name, is_remote

PROC_SUPER_MAGIC = 0x9FA0


def type_of(path: str | Path) -> int:
    """Return the magic number of the filesystem that `path` is on."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return filesystem_type(fd)
    finally:
        os.close(fd)


def test_proc_has_its_magic_number() -> None:
    assert type_of("/proc") == PROC_SUPER_MAGIC


def test_a_kernel_overlay_is_told_from_its_layers(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    with kernel_overlay([tmp_path / "lower"], tmp_path / "upper", tmp_path / "work") as root:
        assert type_of(root) == OVERLAYFS != type_of(tmp_path / "lower")


def test_a_closed_descriptor_is_ebadf() -> None:
    assert errno_of(lambda: filesystem_type(-1)) == errno.EBADF


def test_a_local_filesystem_is_not_remote(tmp_path: Path) -> None:
    assert not is_remote(type_of(tmp_path))


def test_a_fuse_mount_is_remote(tmp_path: Path) -> None:
    with mounted([tmp_path]) as root:
        assert is_remote(type_of(root))


def test_names_of_network_filesystems() -> None:
    network = (b"nfs", b"fuse.sshfs", b"nfs4", b"cifs")
    others = (b"ext4", b"fuse.lxcfs", b"overlay", b"autofs")
    assert [is_network_name(name) for name in network + others] == [True] * 4 + [False] * 4
