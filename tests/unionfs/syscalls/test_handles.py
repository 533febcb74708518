"""File handles and filesystem uuids."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from pathlib import Path

import pytest

from tests.helpers.mounts import require_root, run
from tests.helpers.unions import errno_of
from unionfs.syscalls.handles import filesystem_uuid, handle_at, own_uuid


def test_a_handle_names_an_inode_not_a_path(tmp_path: Path, folder: int) -> None:
    (tmp_path / "a").touch()
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").touch()
    assert handle_at(folder, b"a") == handle_at(folder, b"b") != handle_at(folder, b"c")


def test_a_handle_of_a_link_is_not_that_of_its_target(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert handle_at(folder, b"link") != handle_at(folder, b"file")


def test_a_missing_name_is_enoent(folder: int) -> None:
    assert errno_of(lambda: handle_at(folder, b"none")) == errno.ENOENT


def test_a_uuid_has_16_bytes_and_is_the_same_for_all_files(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").touch()
    uuid = filesystem_uuid(folder)
    assert len(uuid) == 16
    with (tmp_path / "file").open("rb") as file:
        assert filesystem_uuid(file.fileno()) == uuid


def test_a_filesystem_without_a_uuid_has_zeros() -> None:
    proc = os.open("/proc", os.O_RDONLY)
    try:
        assert filesystem_uuid(proc) == bytes(16)
    finally:
        os.close(proc)


@pytest.mark.parametrize(
    ("maker", "size"),
    [
        (("mkfs.ext4", "-q", "-F", "-U"), 8 << 20),
        (("mkfs.xfs", "-q", "-f", "-m"), 320 << 20),
        (("mkfs.btrfs", "-q", "-f", "-U"), 128 << 20),
    ],
    ids=["ext4", "xfs", "btrfs"],
)
def test_the_uuid_is_found_without_the_ioctl_of_all_filesystems(
    tmp_path: Path, maker: tuple[str, ...], size: int
) -> None:
    require_root()
    if shutil.which(maker[0]) is None:
        pytest.skip(f"{maker[0]} is not installed")
    image, top, wanted = tmp_path / "disk", tmp_path / "top", uuid.uuid4()
    with image.open("wb") as out:
        out.truncate(size)
    top.mkdir()
    given = f"uuid={wanted}" if maker[0] == "mkfs.xfs" else str(wanted)
    run(*maker, given, image)
    run("mount", "-o", "loop", image, top)
    try:
        at = os.open(top, os.O_RDONLY)
        try:
            assert own_uuid(at) == wanted.bytes
            assert filesystem_uuid(at) == wanted.bytes
        finally:
            os.close(at)
    finally:
        run("umount", top)
