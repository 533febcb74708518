"""mount(2) and umount2(2)."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounts import mount_type, require_root, run
from tests.helpers.unions import errno_of
from unionfs.syscalls.mount import (
    MNT_DETACH,
    MS_NOEXEC,
    MS_RDONLY,
    MS_REMOUNT,
    UMOUNT_NOFOLLOW,
    mount,
    umount,
)


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    """A directory where nothing stays mounted."""
    require_root()
    top = tmp_path / "mount point"
    top.mkdir()
    yield top
    with contextlib.suppress(OSError):
        umount(os.fsencode(top), MNT_DETACH)


def mount_tmpfs(point: Path, flags: int = 0) -> None:
    mount(b"source", os.fsencode(point), b"tmpfs", flags, b"size=64k,mode=0700")


def test_data_and_flags_reach_the_filesystem(point: Path) -> None:
    mount_tmpfs(point, MS_NOEXEC)
    assert mount_type(point) == "tmpfs"
    assert point.stat().st_mode & 0o7777 == 0o700
    st = os.statvfs(point)
    assert st.f_blocks * st.f_frsize == 64 << 10
    assert st.f_flag & os.ST_NOEXEC and not st.f_flag & os.ST_RDONLY


def test_a_remount_changes_the_flags(point: Path) -> None:
    mount_tmpfs(point)
    mount(b"source", os.fsencode(point), b"tmpfs", MS_REMOUNT | MS_RDONLY, b"")
    assert errno_of((point / "file").touch) == errno.EROFS


def test_a_mount_in_use_is_only_detached(point: Path) -> None:
    mount_tmpfs(point)
    with (point / "file").open("w") as file:
        with pytest.raises(OSError) as caught:
            umount(os.fsencode(point))
        assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, os.fsencode(point))
        umount(os.fsencode(point), MNT_DETACH)
        assert mount_type(point) is None
        file.write("still open")


def test_a_link_to_a_mount_point_need_not_be_followed(point: Path, tmp_path: Path) -> None:
    mount_tmpfs(point)
    link = tmp_path / "link"
    link.symlink_to(point)
    assert errno_of(lambda: umount(os.fsencode(link), UMOUNT_NOFOLLOW)) == errno.EINVAL
    assert mount_type(point) == "tmpfs"
    run("umount", point)


def test_errors_name_the_target(point: Path) -> None:
    with pytest.raises(OSError) as caught:
        mount(b"source", os.fsencode(point), b"no such type", 0, b"")
    assert (caught.value.errno, caught.value.filename) == (errno.ENODEV, os.fsencode(point))
    assert errno_of(lambda: umount(os.fsencode(point))) == errno.EINVAL
