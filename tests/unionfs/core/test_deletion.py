"""Removing names: what outlives its name, and what stays true of other names."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.mounts import run
from tests.helpers.unions import core, errno_of, nodeid, state
from unionfs.types import ROOT_NODEID, NodeId, SetAttr


def made(tree: CoreDriver, where: str) -> NodeId:
    """Make `file` with "data" in the upper, copy it up, or leave it in the lower; return it."""
    if where == "upper":
        tree.create(b"file", 0o644)
        tree.write(b"file", 0, b"data")
    elif where == "copied":
        tree.chmod(b"file", 0o600)
    return nodeid(tree, b"file")


@pytest.mark.parametrize("where", ["upper", "copied", "lower"])
def test_an_unlinked_file_can_be_used(tmp_path: Path, where: str) -> None:
    layers = Layers(tmp_path, {} if where == "upper" else {"file": "data"})
    with layers.union() as tree:
        held = made(tree, where)
        fs = tree.fs
        tree.unlink(b"file")
        assert fs.getattr(held).st_nlink == 0
        assert fs.getattr(held).st.st_size == 4
        fh = fs.open(held, os.O_RDONLY)
        assert fs.read(fh, 0, 9) == b"data"
        fs.setattr(held, SetAttr(mode=0o604, uid=7, gid=8, mtime_ns=9), None)
        attr = fs.getattr(held)
        assert stat.S_IMODE(attr.st.st_mode) == 0o604
        assert (attr.st_uid, attr.st_gid, attr.st.st_mtime_ns) == (7, 8, 9)
        fs.setattr(held, SetAttr(size=2), None)
        assert fs.read(fh, 0, 9) == b"da"
        fs.setxattr(held, b"user.x", b"1", 0)
        assert b"user.x" in fs.listxattr(held)
        fs.removexattr(held, b"user.x")
        assert fs.getattr(held).st_nlink == 0
        assert errno_of(lambda: fs.link(held, ROOT_NODEID, b"again")) == errno.ENOENT
        fs.release(fh)
        assert tree.listdir(b"") == []
        tree.create(b"file", 0o600)
        assert nodeid(tree, b"file") != held
    assert layers.look()[b"file"].size == 0


@pytest.mark.parametrize("where", ["upper", "copied", "lower"])
def test_a_file_can_be_forgotten_while_it_is_unlinked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """FORGET takes no lock of a directory: the names of the union and the disk stay the same."""
    layers = Layers(tmp_path, {} if where == "upper" else {"file": "data"})
    with layers.union() as tree:
        held, fs = made(tree, where), tree.fs
        count = state(tree).table.get(held).nlookup
        for name in ("unlink", "rename"):
            changes = getattr(os, name)

            def change(*args: Any, changes: Any = changes, **places: int) -> None:
                changes(*args, **places)
                fs.forget(held, count)

            monkeypatch.setattr(os, name, change)
        fs.unlink(ROOT_NODEID, b"file")
        monkeypatch.undo()
        assert fs.lookup(ROOT_NODEID, b"file") is None
        assert tree.listdir(b"") == []


@pytest.mark.parametrize("where", ["upper", "copied", "lower"])
def test_a_replaced_file_can_be_used(tmp_path: Path, where: str) -> None:
    layers = Layers(tmp_path, {} if where == "upper" else {"file": "data"})
    with layers.union() as tree:
        held = made(tree, where)
        tree.create(b"other", 0o600)
        tree.rename(b"other", b"file", 0)
        fh = tree.fs.open(held, os.O_RDWR)
        tree.fs.write(fh, 0, b"D")
        assert tree.fs.read(fh, 0, 9) == b"Data"
        assert tree.fs.getattr(held, fh).st_nlink == 0
        tree.fs.release(fh)
        assert tree.read(b"file") == b""


def test_an_unlinked_link_keeps_where_it_leads(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    (layers.lowers[0] / "low").symlink_to("there")
    with layers.union() as tree:
        tree.symlink(b"here", b"up")
        low, up = nodeid(tree, b"low"), nodeid(tree, b"up")
        tree.unlink(b"low")
        tree.unlink(b"up")
        assert tree.fs.readlink(low) == b"there"
        assert tree.fs.readlink(up) == b"here"
        tree.fs.setattr(up, SetAttr(uid=5), None)
        assert tree.fs.getattr(up).st_uid == 5


# -- directories that are gone --


@pytest.mark.parametrize("where", ["upper", "copied", "lower", "merged"])
def test_a_removed_directory_still_held(tmp_path: Path, where: str) -> None:
    layers = Layers(tmp_path, {} if where == "upper" else {"d": {}})
    if where == "merged":
        (layers.upper / "d").mkdir()
    with layers.union() as tree:
        if where == "upper":
            tree.mkdir(b"d", 0o755)
        elif where == "copied":
            tree.chmod(b"d", 0o755)
        fs, held = tree.fs, nodeid(tree, b"d")
        fh = fs.opendir(held)
        tree.rmdir(b"d")
        attr = fs.getattr(held)
        assert stat.S_ISDIR(attr.st.st_mode)
        assert list(fs.readdir(fh, 0)) == []
        assert fs.lookup(held, b"x") is None
        assert fs.lookup(held, b"..") is not None
        fs.forget(ROOT_NODEID, 1)
        file = nodeid_of_new(tree)
        for make in (
            lambda: fs.mkdir(held, b"x", 0o700, 0, 0, 0),
            lambda: fs.create(held, b"x", 0o600, os.O_RDWR, 0, 0, 0),
            lambda: fs.symlink(held, b"x", b"to", 0, 0),
            lambda: fs.mknod(held, b"x", stat.S_IFIFO, 0, 0, 0, 0),
            lambda: fs.link(file, held, b"x"),
            lambda: fs.unlink(held, b"x"),
            lambda: fs.rmdir(held, b"x"),
            lambda: fs.rename(ROOT_NODEID, b"file", held, b"x", 0),
            lambda: fs.rename(held, b"x", ROOT_NODEID, b"y", 0),
        ):
            assert errno_of(make) == errno.ENOENT
        if where == "lower":
            assert errno_of(lambda: fs.setattr(held, SetAttr(mode=0o700), None)) == errno.ENOENT
        else:
            fs.setattr(held, SetAttr(mode=0o711), None)
            assert stat.S_IMODE(fs.getattr(held).st.st_mode) == 0o711
        fs.fsyncdir(fh)
        fs.releasedir(fh)
        tree.mkdir(b"d", 0o700)
        assert nodeid(tree, b"d") != held
    assert set(layers.look()) == {b"", b"d", b"file"}


def nodeid_of_new(tree: CoreDriver) -> NodeId:
    tree.create(b"file", 0o600)
    return nodeid(tree, b"file")


def test_a_replaced_directory_still_held(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"target": {"gone": ""}, "source": {"file": "x"}})
    with layers.union() as tree:
        tree.unlink(b"target/gone")
        held = nodeid(tree, b"target")
        tree.rename(b"source", b"target", 0)
        assert stat.S_ISDIR(tree.fs.getattr(held).st.st_mode)
        assert tree.fs.lookup(held, b"file") is None
        assert tree.read(b"target/file") == b"x"
    assert set(layers.look()) == {b"", b"target", b"target/file"}


@pytest.mark.parametrize("which", ["parent", "child"])
def test_a_full_directory_that_may_not_go_gives_eperm(
    marked: tuple[Layers, list[Path]], which: str
) -> None:
    layers, paths = marked
    with layers.union() as tree:
        tree.mkdir(b"parent", 0o755)
        tree.mkdir(b"parent/child", 0o755)
        tree.create(b"parent/child/file", 0o644)
        tree.mkdir(b"other", 0o755)
        assert errno_of(lambda: tree.rmdir(b"parent/child")) == errno.ENOTEMPTY
        paths.append(layers.upper / ("parent" if which == "parent" else "parent/child"))
        run("chattr", "+i", paths[0])
        assert errno_of(lambda: tree.rmdir(b"parent/child")) == errno.EPERM
        assert errno_of(lambda: tree.rename(b"other", b"parent/child", 0)) == errno.EPERM


# -- a file with several names, one of which goes while what a directory holds is unknown --


def _new_file(tree: CoreDriver, path: bytes, data: bytes) -> None:
    tree.create(path, 0o644)
    tree.write(path, 0, data)


def _fail_to_create(tree: CoreDriver, _layers: Layers) -> None:
    assert errno_of(lambda: tree.mknod(b"b/c", stat.S_IFCHR | 0o600, 0)) == errno.EPERM


def _fail_to_link(tree: CoreDriver, _layers: Layers) -> None:
    name = b"b/" + b"x" * 256
    assert errno_of(lambda: tree.link(b"a/f", name)) == errno.ENAMETOOLONG


def _invalidate(tree: CoreDriver, _layers: Layers) -> None:
    core(tree).reread(None)


def _remove(tree: CoreDriver) -> None:
    tree.unlink(b"a/f")


def _rename_over(tree: CoreDriver) -> None:
    _new_file(tree, b"a/other", b"other")
    tree.rename(b"a/other", b"a/f", 0)


@pytest.mark.parametrize("goes", [_remove, _rename_over])
@pytest.mark.parametrize("unknown", [_fail_to_create, _fail_to_link, _invalidate])
def test_other_names_stay_good_when_one_goes(
    tmp_path: Path,
    unknown: Callable[[CoreDriver, Layers], None],
    goes: Callable[[CoreDriver], None],
) -> None:
    """xfstests generic/013: cat of the other names gave ESTALE, rm -rf left them behind."""
    layers = Layers(tmp_path)
    with layers.union() as tree:
        tree.mkdir(b"a", 0o755)
        tree.mkdir(b"b", 0o755)
        _new_file(tree, b"a/f", b"hi")
        tree.link(b"a/f", b"b/g")
        tree.link(b"a/f", b"b/h")
        unknown(tree, layers)
        goes(tree)
        for name in (b"b/g", b"b/h"):
            assert (tree.read(name), tree.lstat(name).nlink) == (b"hi", 2)
            tree.chmod(name, 0o600)
        tree.unlink(b"b/g")
        tree.unlink(b"b/h")
        tree.rmdir(b"b")
