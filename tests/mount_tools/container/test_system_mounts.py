"""Mount points in a container's root: found and made inside, wherever its links lead."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.container.system_mounts import PinnedPath, furnish, mount_point, restrict
from tests.helpers.mounts import require_root, run
from tests.helpers.unions import errno_of
from unionfs.syscalls import mount_tree


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root").mkdir()
    fd = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_a_mount_point_is_made_where_it_is_missing(root: int, tmp_path: Path) -> None:
    with mount_point(root, "a/b/c", folder=True):
        assert (tmp_path / "root/a/b/c").is_dir()
    with mount_point(root, "a/file", folder=False):
        assert (tmp_path / "root/a/file").is_file()


def test_links_lead_nowhere_outside(root: int, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    inside = tmp_path / "root"
    (inside / "absolute").symlink_to(outside)
    (inside / "relative").symlink_to("../outside")
    (inside / "within").symlink_to("real")
    (inside / "real").mkdir()
    for link in ("absolute", "relative"):
        with pytest.raises(OSError, match=r"exists|No such"):
            mount_point(root, f"{link}/made", folder=True)
    with mount_point(root, "within/made", folder=True):
        assert (inside / "real/made").is_dir()
    assert os.listdir(outside) == []
    with pytest.raises(OSError) as refused:
        mount_point(root, "../outside", folder=True)
    assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize("kind", ["file", "fifo", "link to the root", "link to itself"])
def test_what_cannot_be_mounted_on_is_said(root: int, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "root/proc"
    match kind:
        case "file":
            path.touch()
        case "fifo":
            os.mkfifo(path)
        case "link to the root":
            path.symlink_to("/")
        case _:
            path.symlink_to("proc")
    with pytest.raises(
        StoreError, match=r"the image has no directory /proc|/proc of the image is not"
    ):
        furnish(root, (), {}, read_only=False)
    assert os.listdir(tmp_path / "root") == ["proc"]


def test_an_older_kernel_makes_a_lone_mount_read_only_and_says_why_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_root()

    def lacking(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(mount_tree, "set_mount_attributes", lacking)
    top = tmp_path / "top"
    top.mkdir()
    run("mount", "-t", "tmpfs", "-o", "nosuid", "top", top)
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        (top / "sub").mkdir()
        run("mount", "-t", "tmpfs", "sub", top / "sub")
        with PinnedPath(root, "top") as place:
            with pytest.raises(OSError, match=r"other mounts in it.*since 5\.12") as refused:
                restrict(place, read_only=True, devices=False)
            assert refused.value.errno == errno.EOPNOTSUPP
            run("umount", top / "sub")
            restrict(place, read_only=True, devices=False)
        assert errno_of(lambda: os.mkdir(top / "new")) == errno.EROFS
        flags = os.statvfs(top).f_flag
        assert flags & os.ST_NOSUID and flags & os.ST_NODEV
    finally:
        os.close(root)
        run("umount", "-lR", top)
