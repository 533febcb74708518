"""Renames: what is left on disk, for the next mount and for kernel overlayfs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.trees import assert_same, snapshot
from tests.helpers.unions import errno_of, state
from unionfs.core import rename
from unionfs.core.config import RedirectDir, WhiteoutForm
from unionfs.syscalls.renameat2 import RENAME_EXCHANGE, RENAME_NOREPLACE
from unionfs.types import ROOT_NODEID


def test_a_lower_directory_moved_twice_is_listed_with_its_own_number(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"low": {"file": "x"}})
    with layers.union() as tree:
        ino = tree.lstat(b"low").ino
        for target in (b"new1", b"new2"):
            tree.mkdir(target, 0o755)
        tree.rename(b"low", b"new1/moved", 0)
        tree.rename(b"new1/moved", b"new2/moved", 0)
        tree.forget_all()
        assert [entry.ino for entry in tree.listdir(b"new2")] == [ino]
    seen = layers.look()
    assert seen[b"new2/moved"].ino == ino
    assert seen[b"new2/moved/file"].content == b"x"


def test_a_redirect_is_absolute_and_names_the_lower_path(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"a": {"b": {"c": {"file": "x"}}}})
    with layers.union() as tree:
        tree.rename(b"a/b/c", b"c", 0)
        tree.rename(b"a/b", b"b", 0)
        tree.rename(b"c", b"b/c", 0)
    assert os.getxattr(layers.upper / "b", "trusted.overlay.redirect") == b"/a/b"
    assert os.getxattr(layers.upper / "b/c", "trusted.overlay.redirect") == b"/a/b/c"
    assert layers.look()[b"b/c/file"].content == b"x"


def test_what_lies_beneath_a_moved_directory_moves_along(tmp_path: Path) -> None:
    """A directory inside, not copied up, has to be found where the redirect leads."""
    layers = Layers(tmp_path, {"a": {"b": {"c": {"file": "1"}}}}, {"a": {"b": {"low": "2"}}})
    with layers.union() as tree:
        tree.rename(b"a", b"z", 0)
        tree.rename(b"z/b/c", b"z/b/d", 0)
        tree.create(b"z/b/d/new", 0o600)
        wanted = snapshot(tree)
    assert layers.look().keys() == wanted.keys()
    assert os.getxattr(layers.upper / "z/b/d", "trusted.overlay.redirect") == b"/a/b/c"


@pytest.mark.parametrize("how", [RedirectDir.OFF, RedirectDir.FOLLOW, RedirectDir.NOFOLLOW])
def test_without_redirects_a_lower_directory_cannot_be_renamed(
    tmp_path: Path, how: RedirectDir
) -> None:
    layers = Layers(tmp_path, {"low": {"file": "x"}})
    with layers.union(redirect_dir=how) as tree:
        assert errno_of(lambda: tree.rename(b"low", b"moved", 0)) == errno.EXDEV
        tree.mkdir(b"new", 0o755)
        tree.rename(b"new", b"newer", 0)
        assert tree.read(b"low/file") == b"x"


def test_a_redirect_is_followed_unless_told_not_to(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"low": {"file": "x"}})
    with layers.union() as tree:
        tree.rename(b"low", b"moved", 0)
    assert b"moved/file" in layers.look(redirect_dir=RedirectDir.FOLLOW)
    assert b"moved/file" not in layers.look(redirect_dir=RedirectDir.NOFOLLOW)


def test_a_redirect_too_long_gives_exdev(tmp_path: Path) -> None:
    long = ["n" * 250] * 5
    layers = Layers(tmp_path)
    folder = layers.lowers[0].joinpath(*long)
    folder.mkdir(parents=True)
    with layers.union() as tree:
        path = "/".join(long).encode()
        assert errno_of(lambda: tree.rename(path, b"short", 0)) == errno.EXDEV
        assert tree.lstat(path).is_dir


def test_a_directory_renamed_over_a_whiteout_of_the_xattr_form_stays_away(tmp_path: Path) -> None:
    """The whiteout takes its place, in a directory whose empty files were none until then."""
    layers = Layers(tmp_path, {"x": {"gone": "g"}, "d": {"file": "1"}})
    with layers.union(whiteout=WhiteoutForm.XATTR) as tree:
        tree.unlink(b"x/gone")
        tree.rename(b"d", b"x/gone", 0)
    assert sorted(layers.look()) == [b"", b"x", b"x/gone", b"x/gone/file"]


def made(tree: CoreDriver) -> None:
    tree.create(b"old", 0o640)
    tree.append(b"old", b"made")


def made_and_linked(tree: CoreDriver) -> None:
    made(tree)
    tree.link(b"old", b"other")


def copied_up(tree: CoreDriver) -> None:
    tree.rename(b"low", b"old", 0)


def in_place_of_a_whiteout(tree: CoreDriver) -> None:
    tree.unlink(b"low")
    made(tree)
    tree.rename(b"old", b"low", 0)
    tree.rename(b"low", b"old", 0)


def made_before_the_mount(tree: CoreDriver) -> None:
    tree.rename(b"there", b"old", 0)


@pytest.mark.parametrize("new", [b"new", b"low2", b"gone", b"taken", b"old"])
@pytest.mark.parametrize(
    "make", [made, made_and_linked, copied_up, in_place_of_a_whiteout, made_before_the_mount]
)
def test_a_file_renamed_within_its_directory_is_the_same_file(
    tmp_path: Path, make: Callable[[CoreDriver], None], new: bytes
) -> None:
    layers = Layers(tmp_path, {"low": "low", "low2": "low2", "gone": "gone"})
    (layers.upper / "there").write_text("there")
    with layers.union() as tree:
        tree.unlink(b"gone")
        tree.create(b"taken", 0o600)
        make(tree)
        before = tree.lstat(b"old")
        content = tree.read(b"old")
        kept = {entry.name for entry in tree.listdir(b"")} - {b"old", new}
        fh = tree.open(b"old", os.O_RDWR, 0)
        tree.rename(b"old", new, 0)
        after = tree.lstat(new)
        assert (after.ino, after.mode, after.nlink) == (before.ino, before.mode, before.nlink)
        assert {entry.name for entry in tree.listdir(b"")} == kept | {new}
        tree.append(new, b"+")
        tree.close(fh)
        tree.chmod(new, 0o604)
        tree.rename(new, b"last", 0)
        tree.rename(b"last", new, 0)
        wanted = snapshot(tree)
        assert wanted[new].content == content + b"+"
    assert_same(layers.look(), wanted)


def test_a_rename_of_a_new_file_is_one_system_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Layers(tmp_path, {"low": "x"}).union() as tree:
        made(tree)
        with monkeypatch.context() as patched:
            for call in ("stat", "lstat", "open", "setxattr", "listxattr"):
                patched.setattr(os, call, None)
            root = state(tree).table.directory(ROOT_NODEID)
            rename.rename(state(tree), root, b"old", root, b"new", 0)
        assert tree.read(b"new") == b"made"


def test_the_flags_hold_within_a_directory(tmp_path: Path) -> None:
    with Layers(tmp_path, {"low": "x"}).union() as tree:
        made(tree)
        assert errno_of(lambda: tree.rename(b"old", b"low", RENAME_NOREPLACE)) == errno.EEXIST
        assert errno_of(lambda: tree.rename(b"old", b"new", RENAME_EXCHANGE)) == errno.ENOENT
        tree.rename(b"old", b"new", RENAME_NOREPLACE)
        tree.rename(b"new", b"low", RENAME_EXCHANGE)
        assert (tree.read(b"low"), tree.read(b"new")) == (b"made", b"x")
