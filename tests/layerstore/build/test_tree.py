"""Source trees: paths, patterns and walks, also where the tree is hostile."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerstore.build.ignore import Ignore
from layerstore.build.tree import Tree
from layerstore.errors import StoreError
from tests.layerstore.build.mini_build import written


@contextmanager
def opened(path: Path, *patterns: str) -> Iterator[Tree]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Tree(fd, Ignore(patterns))
    finally:
        os.close(fd)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files: dict[str, str | None] = {
        "a": "a",
        "d/x": "x",
        "d/s/y": "y",
        "ld": "->d",
        "la": "->d/../a",
        "abs": "->/d/x",
        "out": "->../outside",
        "up": "->../../../../../../../../etc/passwd",
        "loop": "->loop",
        "broken": "->nothing",
    }
    written(tmp_path, {"outside": "secret"})
    return written(tmp_path / "root", files)


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("a", "a"),
        ("", ""),
        (".", ""),
        ("d/", "d"),
        ("la", "a"),
        ("ld/x", "d/x"),
        ("abs", "d/x"),
        ("../a", "a"),
        ("d//s/./y", "d/s/y"),
    ],
)
def test_find(root: Path, path: str, real: str) -> None:
    with opened(root) as tree:
        found = tree.find(path)
        assert found is not None
        assert found.path == real


@pytest.mark.parametrize("path", ["no", "a/x", "out", "up", "loop", "broken", "loop/x"])
def test_what_leads_to_nothing_in_the_tree(root: Path, path: str) -> None:
    with opened(root) as tree:
        assert tree.find(path) is None
        assert tree.is_circle(path) is path.startswith("loop")


def test_what_is_ignored_is_not_there_by_any_path(root: Path) -> None:
    with opened(root, "d/x") as tree:
        assert tree.find("d/x") is None
        assert tree.find("abs") is None
        assert tree.find("ld/x") is None
        assert tree.find("d") is not None
    with opened(root, "d", "!d/s") as tree:
        assert tree.find("d") is not None
        assert tree.find("d/x") is None
        assert tree.find("d/s/y") is not None


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("*", ["a", "abs", "broken", "d", "la", "ld", "loop", "out", "up"]),
        ("l*", ["la", "ld", "loop"]),
        ("*/x", ["d/x"]),  # no link on the way is followed
        ("d/*", ["d/s", "d/x"]),
        ("*/*/y", ["d/s/y"]),
        ("/./d/[xyz]", ["d/x"]),
        ("nothing*", []),
        ("a/*", []),
    ],
)
def test_glob(root: Path, pattern: str, paths: list[str]) -> None:
    with opened(root) as tree:
        assert tree.glob(pattern) == paths
        path = os.open(root, os.O_PATH)  # that is how the root of a stage is open
        try:
            assert Tree(path).glob(pattern) == paths
        finally:
            os.close(path)


def test_a_pattern_does_not_see_what_is_ignored(root: Path) -> None:
    with opened(root, "d/x", "l*") as tree:
        assert tree.glob("*/*") == ["d/s"]
        assert tree.glob("l*") == []


@pytest.mark.parametrize("pattern", ["[a", "../*", "a/[]x]"])
def test_a_bad_pattern_is_refused(root: Path, pattern: str) -> None:
    with opened(root) as tree, pytest.raises(StoreError, match=r"pattern|out of the tree"):
        tree.glob(pattern)


def walked(tree: Tree, path: str = "") -> list[str]:
    return [f"{'.' * entry.depth}{entry.path}" for entry in tree.walk(path)]


def test_walk(root: Path) -> None:
    with opened(root) as tree:
        assert walked(tree, "d") == ["d", ".d/s", "..d/s/y", ".d/x"]
        assert walked(tree)[:5] == ["", ".a", ".abs", ".broken", ".d"]


def test_an_ignored_directory_comes_with_the_first_file_in_it_that_is_not(root: Path) -> None:
    with opened(root, "*", "!d/s/y") as tree:
        assert walked(tree) == ["", ".d", "..d/s", "...d/s/y"]
    with opened(root, "*", "!d/s/nothing") as tree:
        assert walked(tree) == [""]


def test_odd_names_and_files(tmp_path: Path) -> None:
    names = [b"new\nline", b"bad\xff", b"-x", b" ", b"\xc3\xa9", b"a\\b", b"*"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_text("x")
    os.mkfifo(tmp_path / "fifo")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "sock"))
    sock.close()
    with opened(tmp_path) as tree:
        found = [os.fsencode(entry.name) for entry in tree.walk("")][1:]
    assert found == sorted([*names, b"fifo", b"sock"])


def test_a_file_that_cannot_be_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.listdir

    def refuse(fd: int) -> list[str]:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/s"):
            raise PermissionError(13, "Permission denied")
        return real(fd)

    with opened(root) as tree:
        monkeypatch.setattr(os, "listdir", refuse)
        with pytest.raises(StoreError, match="d/s cannot be read: Permission denied"):
            list(tree.walk("d"))


def test_a_tree_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(450):
        os.mkdir("d", dir_fd=fd)
        beneath = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = beneath
    os.close(fd)
    with opened(tmp_path) as tree, pytest.raises(StoreError, match="that is too deep"):
        list(tree.walk(""))


def test_a_file_that_goes_during_a_walk_is_named(root: Path) -> None:
    with opened(root) as tree:
        walk = tree.walk("d")
        assert next(walk).path == "d"
        assert next(walk).path == "d/s"
        (root / "d/x").unlink()
        with pytest.raises(StoreError, match="d/x changed while it was read: it was removed"):
            list(walk)


def test_a_directory_that_becomes_a_link_is_not_followed(root: Path) -> None:
    with opened(root) as tree:
        walk = tree.walk("d")
        next(walk)
        entry = next(walk)
        assert entry.path == "d/s"
        (root / "d/s/y").unlink()
        (root / "d/s").rmdir()
        (root / "d/s").symlink_to("/etc")
        with pytest.raises(StoreError, match="d/s changed while it was read"):
            list(walk)


def test_a_walk_that_is_left_closes_what_it_opened(root: Path) -> None:
    with opened(root) as tree:
        before = len(os.listdir("/proc/self/fd"))
        walk = tree.walk("d")
        next(walk)
        next(walk)
        next(walk)
        assert len(os.listdir("/proc/self/fd")) > before
        walk.close()  # type: ignore[attr-defined]
        assert len(os.listdir("/proc/self/fd")) == before
