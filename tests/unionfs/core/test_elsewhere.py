"""What was renamed and is to be restored is not at two paths with one st_ino."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.calls import RENAME_EXCHANGE
from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.trees import raw
from tests.helpers.unions import Content, core, errno_of
from unionfs.core.config import RedirectDir, WhiteoutForm

CONTENT: Content = {
    "etc": {"passwd": "root", "d": {"a": "1", "b": "2", "sub": {"c": "3"}}},
    "one": "linked",
    "old": "old",
    "other": {"o": "o"},
}
TOP: Content = {"etc": {"d": {"a": "new", "more": {"m": "m"}}}}


@pytest.fixture(params=["one lower", "two lowers"])
def layers(tmp_path: Path, request: pytest.FixtureRequest) -> Layers:
    layers = Layers(tmp_path, *([TOP] if request.param == "two lowers" else []), CONTENT)
    os.link(layers.lowers[-1] / "one", layers.lowers[-1] / "etc/two")
    os.symlink("old", layers.lowers[-1] / "link")
    os.chmod(layers.lowers[-1] / "etc/passwd", 0o444)
    return layers


def refused(tree: CoreDriver, path: bytes, *along: bytes, dry_run: bool = False) -> str:
    said: list[tuple[int | None, str]] = []
    try:
        core(tree).restore(path, dry_run=dry_run, along=along)
    except OSError as error:
        said.append((error.errno, str(error.strerror)))
    ((code, text),) = said
    assert code == errno.EBUSY
    return text


def numbers(tree: CoreDriver, path: bytes = b"") -> dict[bytes, int]:
    """Return each path beneath `path` with its st_ino, which stat(2) and a listing agree on."""
    found: dict[bytes, int] = {}
    for entry in list(tree.listdir(path)):
        if entry.name in (b".", b".."):
            continue
        below = path + b"/" + entry.name if path else entry.name
        st = tree.lstat(below)
        assert entry.ino == st.ino, below
        found[below] = st.ino
        if st.is_dir:
            found |= numbers(tree, below)
    return found


def twice(tree: CoreDriver) -> set[frozenset[bytes]]:
    """Return the paths that share their st_ino and are no links."""
    by_ino: dict[int, set[bytes]] = {}
    for path, ino in numbers(tree).items():
        by_ino.setdefault(ino, set()).add(path)
    return {
        frozenset(paths)
        for paths in by_ino.values()
        if len(paths) > 1 and any(tree.lstat(path).nlink != len(paths) for path in paths)
    }


@pytest.mark.parametrize("cached", [True, False])
def test_a_renamed_directory_is_restored_with_the_path_that_it_has(
    layers: Layers, cached: bool
) -> None:
    with layers.union(redirect_dir=RedirectDir.ON) as tree:
        before = numbers(tree)
        tree.mkdir(b"new", 0o755)
        tree.rename(b"etc/d", b"new/d", 0)
        tree.mkdir(b"new/d/sub/x", 0o755)
        if not cached:
            tree.forget_all()
        changed = raw(layers.upper)
        for dry_run in (True, False):
            assert refused(tree, b"etc/d", b"new/e", dry_run=dry_run) == (
                "the container has renamed /etc/d of the image to /new/d: restore /new/d in the "
                "same command, which removes it, or move it back, or put a copy of it there"
            )
        assert refused(tree, b"etc") == refused(tree, b"etc/d")
        assert raw(layers.upper) == changed
        assert core(tree).restore(b"etc/d", dry_run=True, along=(b"/new",)).changed
        for path in (b"etc/d", b"new"):
            core(tree).restore(path, along=(b"etc/d", b"new"))
        assert numbers(tree) == before
        tree.forget_all()
        assert numbers(tree) == before
    assert list(layers.upper.iterdir()) == []


def test_what_is_beneath_the_path_or_was_renamed_twice(layers: Layers) -> None:
    with layers.union(redirect_dir=RedirectDir.ON) as tree:
        before = numbers(tree)
        tree.rename(b"etc/d/sub", b"t", 0)
        assert "renamed /etc/d/sub of the image to /t: restore /t" in refused(tree, b"etc")
        assert "restore /t" in refused(tree, b"etc/d/sub")
        tree.rename(b"etc/d", b"y", 0)
        tree.rename(b"t", b"y/a/t" if tree.lstat(b"y/a").is_dir else b"u", 0)
        text = "renamed /etc/d/sub of the image to /u, /etc/d of the image to /y: restore /u, /y in"
        assert text in refused(tree, b"etc/d")
        assert "/etc/d of the image to /y: restore /y in" in refused(tree, b"etc/d", b"u")
        assert not core(tree).restore(b"etc/passwd").changed
        together = (b"etc/d", b"u", b"y")
        for path in together:
            core(tree).restore(path, along=together)
        assert numbers(tree) == before


def test_directories_that_were_exchanged(layers: Layers) -> None:
    with layers.union(redirect_dir=RedirectDir.ON) as tree:
        before = numbers(tree)
        tree.rename(b"etc/d", b"other", RENAME_EXCHANGE)
        assert "/etc/d of the image to /other:" in refused(tree, b"etc/d")
        assert "/other of the image to /etc/d:" in refused(tree, b"other")
        for path in (b"etc/d", b"other"):
            core(tree).restore(path, along=(b"etc/d", b"other"))
        assert numbers(tree) == before


def test_what_is_renamed_within_the_path_or_back(layers: Layers) -> None:
    with layers.union(redirect_dir=RedirectDir.ON) as tree:
        before = numbers(tree)
        tree.rename(b"etc/d", b"etc/e", 0)
        assert core(tree).restore(b"etc").changed
        assert numbers(tree) == before
        tree.rename(b"etc/d", b"y", 0)
        tree.rename(b"y", b"etc/d", 0)
        assert core(tree).restore(b"etc/d").changed
        assert numbers(tree) == before


def test_a_relative_redirect_of_overlayfs(layers: Layers) -> None:
    (layers.upper / "etc/e").mkdir(parents=True)
    os.setxattr(layers.upper / "etc/e", "trusted.overlay.redirect", b"d")
    os.mknod(layers.upper / "etc/d", 0o20000, 0)
    with layers.union(redirect_dir=RedirectDir.ON) as tree:
        assert tree.read(b"etc/e/b") == b"2"
        assert "/etc/d of the image to /etc/e:" in refused(tree, b"etc/d")


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("metacopy", [True, False])
def test_a_renamed_file_is_one_of_its_own(
    layers: Layers, user: bool, cached: bool, metacopy: bool
) -> None:
    settings: dict[str, Any] = {"userxattr": True, "whiteout": WhiteoutForm.XATTR} if user else {}
    settings |= {"metacopy": metacopy and not user, "redirect_dir": RedirectDir.ON}
    names = {b"etc/passwd": b"etc/new", b"old": b"moved", b"link": b"t", b"etc/d/sub/c": b"c"}
    with layers.union(**settings) as tree:
        before = numbers(tree)
        for path, other in names.items():
            tree.rename(path, other, 0)
        if not cached:
            tree.forget_all()
        for path in (b"etc/d", b"etc/passwd", b"old", b"link"):
            told = core(tree).restore(path)
            if cached:
                other = names.get(path, b"c")
                assert tree.get(other).nodeid in told.inodes
        assert twice(tree) == set()
        shown = numbers(tree)
        assert {path: shown[path] for path in before} == before
        tree.forget_all()
        assert numbers(tree) == shown
        assert (tree.read(b"etc/new"), tree.read(b"moved")) == (b"root", b"old")
    with layers.union(**settings) as tree:
        assert numbers(tree) == shown
        assert (tree.read(b"c"), tree.read(b"etc/d/sub/c")) == (b"3", b"3")


def test_a_renamed_file_that_is_locked(layers: Layers) -> None:
    """Its lock is kept by its st_ino, which has to stay."""
    with layers.union() as tree:
        tree.rename(b"old", b"moved", 0)
        locked = {tree.lstat(b"moved").ino}
        core(tree).ask_of_locks(locked.__contains__)
        for dry_run in (True, False):
            assert refused(tree, b"old", dry_run=dry_run) == (
                "/moved, which the container has renamed and locked, comes from /old of the "
                "image: restore /moved in the same command, which removes it, or end the program"
            )
        assert errno_of(lambda: tree.lstat(b"old")) == errno.ENOENT
        assert core(tree).restore(b"old", dry_run=True, along=(b"moved",)).changed
        locked.clear()
        core(tree).restore(b"old")
        assert twice(tree) == set()


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("user", [False, True])
def test_a_changed_link_and_one_that_was_deleted(layers: Layers, cached: bool, user: bool) -> None:
    settings: dict[str, Any] = {"userxattr": True, "whiteout": WhiteoutForm.XATTR} if user else {}
    with layers.union(**settings) as tree:
        before = tree.lstat(b"etc/two")
        tree.truncate(b"one", 2)
        tree.rename(b"one", b"uno", 0)
        tree.unlink(b"etc/two")
        if not cached:
            tree.forget_all()
        core(tree).restore(b"etc/two")
        assert (tree.read(b"uno"), tree.read(b"etc/two")) == (b"li", b"linked")
        assert tree.lstat(b"uno").ino != tree.lstat(b"etc/two").ino == before.ino
        shown = numbers(tree)
        tree.forget_all()
        assert numbers(tree) == shown


def test_an_upper_that_is_nested_deeper_than_python_allows_calls(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"old": "old"})
    depth = sys.getrecursionlimit() + 100
    fd = os.open(layers.upper, os.O_PATH)
    for _ in range(depth):
        os.mkdir(b"d", dir_fd=fd)
        below = os.open(b"d", os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    try:
        with layers.union() as tree:
            tree.rename(b"old", b"moved", 0)
            assert core(tree).restore(b"old").changed
            assert tree.lstat(b"moved").ino != tree.lstat(b"old").ino
    finally:
        subprocess.run(["rm", "-r", layers.upper / "d"], check=True)  # pytest cannot
