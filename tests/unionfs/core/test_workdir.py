"""The workdir: swept at both ends, whatever a crash left there."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.acls import ACL_OF_1234, DEFAULT_ACL
from tests.helpers.layers import Layers
from unionfs.core.layer import Fd
from unionfs.core.workdir import WorkDir
from unionfs.core.xattr_ids import ACLS


def test_what_a_crash_left_is_swept(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "x"})
    staging = layers.work / "work"
    (staging / "#1/deep/er").mkdir(parents=True)
    (staging / "#1/deep/file").write_text("x")
    (staging / "#1/link").symlink_to(layers.lowers[0])
    (staging / "#2").write_text("x")
    (staging / "#1/deep").chmod(0)
    with layers.union() as tree:
        (whiteout,) = staging.iterdir()
        assert whiteout.is_char_device(), "the one that others are links of"
        tree.unlink(b"file")
        assert tree.listdir(b"") == []


def test_a_directory_of_overlayfs_with_mode_0_is_used(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "x"})
    (layers.work / "work").mkdir(mode=0)
    with layers.union() as tree:
        tree.chmod(b"file", 0o600)


@pytest.mark.parametrize("gone", ["", "work", "work/left", "index"])
@pytest.mark.parametrize("volatile", [False, True])
def test_closing_without_the_workdir_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, gone: str, volatile: bool
) -> None:
    """An engine removes the workdir right after umount(2), before the daemon has closed."""
    caplog.set_level(logging.DEBUG)
    layers = Layers(tmp_path, {"file": "x", "other": "x"})
    os.link(layers.lowers[0] / "file", layers.lowers[0] / "link")
    with layers.union(volatile=volatile) as tree:
        tree.chmod(b"file", 0o600)
        tree.unlink(b"other")
        (layers.work / "work/left").mkdir()
        shutil.rmtree(layers.work / gone)
    assert [str(each) for each in caplog.records if each.levelno > logging.INFO] == []


def test_a_workdir_that_is_removed_while_it_is_swept_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = Layers(tmp_path, {"file": "x"})
    unlink = os.unlink

    def removed_before(name: Any, *args: Any, **keywords: Any) -> None:
        if name == b"inner" and layers.work.exists():
            monkeypatch.undo()
            shutil.rmtree(layers.work)
        unlink(name, *args, **keywords)

    with layers.union() as tree:
        tree.unlink(b"file")
        (layers.work / "work/left/deep").mkdir(parents=True)
        (layers.work / "work/left/deep/inner").touch()
        monkeypatch.setattr(os, "unlink", removed_before)
    assert not layers.work.exists()
    assert [str(each) for each in caplog.records if each.levelno > logging.INFO] == []


def test_names_are_new_and_discarding_nothing_is_well(tmp_path: Path) -> None:
    work = WorkDir(Fd(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)))
    assert work.new_name() != work.new_name()
    work.discard(b"nothing")
    first = work.shared_whiteout()
    assert work.shared_whiteout() == first
    work.drop_shared_whiteout()
    assert os.listdir(tmp_path / "work") == []
    assert work.shared_whiteout() != first


def test_whiteouts_beyond_the_links_of_one(tmp_path: Path) -> None:
    """A filesystem allows so many links of the shared whiteout, and then no more."""
    layers = Layers(tmp_path, {str(n): "" for n in range(6)})
    link, links = os.link, []

    def few_links(*args: Any, **keywords: Any) -> None:
        links.append(args)
        if len(links) % 3 == 0:
            raise OSError(31, "Too many links")
        link(*args, **keywords)

    with layers.union() as tree:
        os.link = few_links
        try:
            for number in range(6):
                tree.unlink(b"%d" % number)
        finally:
            os.link = link
        assert tree.listdir(b"") == []
    assert set(layers.look()) == {b""}


def test_a_tree_deeper_than_descriptors_is_discarded(tmp_path: Path) -> None:
    """Each level cost a descriptor and a frame of the stack."""
    work = WorkDir(Fd(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)))
    at = work.make_dir(b"deep")
    for _ in range(1500):
        os.mkdir(b"d", dir_fd=at)
        at = Fd(os.open(b"d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=at))
    del at
    work.discard(b"deep")
    assert os.listdir(tmp_path / "work") == []


def test_an_open_file_that_nfs_keeps_holds_up_no_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open file that lost its name has one of NFS's own, whose unlink(2) is EBUSY."""
    layers = Layers(tmp_path, {"file": "x"})
    unlink = os.unlink

    def keeping(name: bytes, *, dir_fd: int) -> None:
        if name == b".nfs1":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        unlink(name, dir_fd=dir_fd)

    with layers.union() as tree:
        tree.mkdir(b"d", 0o700)
        (layers.upper / "d/.nfs1").write_text("open")
        with monkeypatch.context() as patched:
            patched.setattr(os, "unlink", keeping)
            tree.rmdir(b"d")
        assert [entry.name for entry in tree.listdir(b"")] == [b"file"]
        tree.mkdir(b"d", 0o700)
    assert list((layers.work / "work").iterdir()) == []


def test_nothing_inherits_the_default_acl_of_the_workdir(tmp_path: Path) -> None:
    """What is staged would have rights that neither its source nor its directory gives."""
    layers = Layers(tmp_path, {"file": "x", "gone": "x", "dir": {"file": "x"}})
    os.setxattr(layers.work, DEFAULT_ACL, ACL_OF_1234)
    with layers.union() as tree:
        tree.chmod(b"file", 0o640)
        tree.chmod(b"dir/file", 0o640)
        tree.unlink(b"gone")
        tree.create(b"gone", 0o640)
        assert {DEFAULT_ACL} == set(os.listxattr(layers.work)), "which is the user's own"
    for name in ("file", "gone", "dir", "dir/file"):
        assert not ACLS & set(os.listxattr(layers.upper / name))


def test_nothing_inherits_the_group_of_the_workdir(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"gone": "x", "removed": {}, "dir": {}, "file": "x"})
    os.chown(layers.work, -1, 77)
    layers.work.chmod(0o2755)
    (layers.work / "work").mkdir()
    with layers.union() as tree:
        tree.chmod(b"dir", 0o750)
        tree.chmod(b"file", 0o640)
        tree.unlink(b"gone")
        tree.create(b"gone", 0o640)
        tree.rmdir(b"removed")
        tree.mkdir(b"removed", 0o750)
    for name in ("gone", "removed", "dir", "file"):
        found = (layers.upper / name).stat()
        assert (found.st_gid, found.st_mode & 0o7000) == (0, 0), name
