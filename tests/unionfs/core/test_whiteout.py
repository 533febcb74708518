"""Whiteouts and opaque directories in every form, found in layers and written to an upper."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.layers import Layers
from tests.helpers.trees import assert_same, join, snapshot
from tests.helpers.unions import Content, errno_of
from unionfs.core.config import WhiteoutForm

Maker = Callable[[Path, str, str], None]
"""Makes a whiteout: the directory, the name, the prefix of private attributes."""

PREFIXES = ["trusted.overlay.", "user.overlay."]


def char(folder: Path, name: str, prefix: str) -> None:
    os.mknod(folder / name, stat.S_IFCHR, os.makedev(0, 0))


def attribute(folder: Path, name: str, prefix: str) -> None:
    os.setxattr(folder, prefix + "opaque", b"x")
    (folder / name).touch()
    os.setxattr(folder / name, prefix + "whiteout", b"y")


def aufs(folder: Path, name: str, prefix: str) -> None:
    (folder / f".wh.{name}").touch()


def opaque_attribute(folder: Path, prefix: str) -> None:
    os.setxattr(folder, prefix + "opaque", b"y")


def opaque_fuse_overlayfs(folder: Path, prefix: str) -> None:
    os.setxattr(folder, "user.fuseoverlayfs.opaque", b"y")


def opaque_aufs(folder: Path, prefix: str) -> None:
    (folder / ".wh..wh..opq").touch()


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("where", ["upper", "lower"])
@pytest.mark.parametrize("whiteout", [char, attribute, aufs])
@pytest.mark.parametrize("folder", ["", "d"])
def test_whiteouts_of_every_form_hide(
    tmp_path: Path, whiteout: Maker, where: str, prefix: str, folder: str
) -> None:
    content: Content = {"gone": "1", "gone-dir": {"f": "1"}, "kept": "1"}
    layers = Layers(tmp_path, {"d": {}}, {**content, "d": content})
    layer = layers.upper if where == "upper" else layers.lowers[0]
    (layer / "d").mkdir(exist_ok=True)
    for name in ("gone", "gone-dir"):
        whiteout(layer / folder, name, prefix)
    base = os.fsencode(folder)
    with layers.union(userxattr=prefix == "user.overlay.") as tree:
        seen = {entry.name for entry in tree.listdir(base)} - {b"d"}
        assert seen == {b"kept"}
        for hidden in (b"gone", b"gone-dir"):
            path = join(base, hidden)
            with pytest.raises(FileNotFoundError):
                tree.lstat(path)
            tree.mkdir(path, 0o755)
            assert tree.listdir(path) == []
        tree.forget_all()
        wanted = snapshot(tree)
    assert_same(wanted, layers.look(userxattr=prefix == "user.overlay."))


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("where", ["upper", "lower"])
@pytest.mark.parametrize("opaque", [opaque_attribute, opaque_fuse_overlayfs, opaque_aufs])
def test_opaque_directories_of_every_form_hide(
    tmp_path: Path, opaque: Callable[[Path, str], None], where: str, prefix: str
) -> None:
    layers = Layers(
        tmp_path, {"d": {"sub": {"s1": ""}}}, {"d": {"a": "2", "sub": {"s2": ""}}}, {"d": {"b": ""}}
    )
    layer = layers.upper if where == "upper" else layers.lowers[0]
    (layer / "d/mine").mkdir(parents=True)
    opaque(layer / "d", prefix)
    visible = {b"mine"} if where == "upper" else {b"mine", b"sub"}
    with layers.union(userxattr=prefix == "user.overlay.") as tree:
        assert {entry.name for entry in tree.listdir(b"d")} == visible
        with pytest.raises(FileNotFoundError):
            tree.lstat(b"d/a")
        if where == "lower":
            assert [entry.name for entry in tree.listdir(b"d/sub")] == [b"s1"]
        tree.create(b"d/a", 0o600)
        assert tree.listxattr(b"d") == []


def test_a_root_may_be_opaque(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"a": ""}, {"b": ""})
    os.setxattr(layers.lowers[0], "trusted.overlay.opaque", b"y")
    with layers.union() as tree:
        assert {entry.name for entry in tree.listdir(b"")} == {b"a"}
        assert tree.listxattr(b"") == []


def test_a_name_beside_its_own_aufs_whiteout_is_what_the_layer_adds(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"name": "new"}, {"name": "old"})
    aufs(layers.lowers[0], "name", "")
    (layers.lowers[0] / ".wh..wh.plnk").mkdir()
    with layers.union() as tree:
        assert [entry.name for entry in tree.listdir(b"")] == [b"name"]
        assert tree.read(b"name") == b"new"


@pytest.mark.parametrize("userxattr", [False, True], ids=["trusted", "user"])
@pytest.mark.parametrize("form", [WhiteoutForm.CHAR, WhiteoutForm.XATTR, WhiteoutForm.AUFS])
def test_what_is_written_is_read_back(tmp_path: Path, form: WhiteoutForm, userxattr: bool) -> None:
    layers = Layers(
        tmp_path,
        {
            "file": "1",
            "d": {"in": "1", "other": "1"},
            "again": {"old": "1"},
            "renamed": "1",
            "renamed-dir": {"in": "1"},
            "target": "1",
            "target-dir": {},
            "emptied": {"one": "1", "two": "2"},
        },
    )
    settings: dict[str, Any] = {"whiteout": form, "userxattr": userxattr}
    with layers.union(**settings) as tree:
        tree.unlink(b"file")
        tree.unlink(b"d/in")
        tree.unlink(b"again/old")
        tree.rmdir(b"again")
        tree.mkdir(b"again", 0o755)
        tree.create(b"again/new", 0o600)
        tree.rename(b"renamed", b"target", 0)
        tree.unlink(b"emptied/one")
        tree.unlink(b"emptied/two")
        tree.rename(b"renamed-dir", b"emptied", 0)
        tree.rename(b"target-dir", b"d/in", 0)
        tree.forget_all()
        wanted = snapshot(tree)
    assert set(wanted) == {
        *(b"", b"d", b"d/in", b"d/other", b"again", b"again/new"),
        *(b"target", b"emptied", b"emptied/in"),
    }
    assert_same(wanted, layers.look(**settings))
    # Every form is read, whichever is written.
    assert_same(wanted, layers.look(userxattr=userxattr))
    devices = [p for p in layers.upper.rglob("*") if p.is_char_device()]
    files = list(layers.upper.rglob(".wh.*"))
    assert bool(devices) is (form is WhiteoutForm.CHAR)
    assert bool(files) is (form is WhiteoutForm.AUFS)


@pytest.mark.parametrize("form", [WhiteoutForm.CHAR, WhiteoutForm.XATTR, WhiteoutForm.AUFS])
def test_an_upper_becomes_a_layer(tmp_path: Path, form: WhiteoutForm) -> None:
    layers = Layers(tmp_path, {"d": {"a": "", "b": ""}, "e": {"x": ""}})
    with layers.union(whiteout=form) as tree:
        tree.unlink(b"d/a")
        tree.rename(b"e", b"d/e", 0)
        tree.unlink(b"d/e/x")
        wanted = snapshot(tree)
    layers.upper.rename(tmp_path / "committed")
    layers.upper.mkdir()
    shutil.copystat(tmp_path / "committed", layers.upper)
    layers.lowers.insert(0, tmp_path / "committed")
    assert_same(wanted, layers.look(whiteout=form))


def test_names_with_the_aufs_prefix_cannot_be_made(tmp_path: Path) -> None:
    with Layers(tmp_path, {"file": "x"}).union() as tree:
        for make in (
            lambda: tree.create(b".wh.file", 0o600),
            lambda: tree.mkdir(b".wh.file", 0o700),
            lambda: tree.rename(b"file", b".wh.file", 0),
            lambda: tree.link(b"file", b".wh.file"),
        ):
            assert errno_of(make) == errno.EPERM
        assert tree.read(b"file") == b"x"


def test_a_name_too_long_for_its_aufs_whiteout_stays(tmp_path: Path) -> None:
    name = b"n" * 253
    with Layers(tmp_path, {"n" * 253: "x"}).union(whiteout=WhiteoutForm.AUFS) as tree:
        assert errno_of(lambda: tree.unlink(name)) == errno.ENAMETOOLONG
        assert tree.read(name) == b"x"


def test_a_device_0_0_cannot_be_made_by_users(tmp_path: Path) -> None:
    with Layers(tmp_path).union() as tree, pytest.raises(PermissionError):
        tree.mknod(b"node", stat.S_IFCHR | 0o600, 0)
