"""Ignore files: where they are found, and docker's own cases of patterns."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from layerstore.build.ignore import Ignore, read_ignore
from layerstore.containerfile.errors import ContainerfileError
from layerstore.errors import StoreError
from tests.layerstore.build.mini_build import build, listing, written

FILES: dict[str, str | None] = {
    "a.txt": "a",
    "b.md": "b",
    "d/keep": "k",
    "d/sub/y": "y",
    "d/sub/z.txt": "z",
    "n/m/o.txt": "o",
    "n/p.md": "p",
    "empty": None,
}


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        (["*.txt"], "b.md d/keep d/sub/y d/sub/z.txt n/m/o.txt n/p.md"),
        (["**/*.txt"], "b.md d/keep d/sub/y n/p.md"),
        (["d"], "a.txt b.md n/m/o.txt n/p.md"),
        (["d/"], "a.txt b.md n/m/o.txt n/p.md"),
        (["/d"], "a.txt b.md n/m/o.txt n/p.md"),
        (["d", "!d/keep"], "a.txt b.md d/keep n/m/o.txt n/p.md"),
        (["!d/keep", "d"], "a.txt b.md n/m/o.txt n/p.md"),
        (["*", "!n"], "n/m/o.txt n/p.md"),
        (["*", "!n/m"], "n/m/o.txt"),
        (["**", "!**/*.txt"], "a.txt d/sub/z.txt n/m/o.txt"),
        (["n/*", "!n/m"], "a.txt b.md d/keep d/sub/y d/sub/z.txt n/m/o.txt"),
        (["d/?"], "a.txt b.md d/keep d/sub/y d/sub/z.txt n/m/o.txt n/p.md"),
        (["d//sub", "../x"], "a.txt b.md d/keep n/m/o.txt n/p.md"),
        (["**/sub"], "a.txt b.md d/keep n/m/o.txt n/p.md"),
        (["n/**/o.txt"], "a.txt b.md d/keep d/sub/y d/sub/z.txt n/p.md"),
        (["# d", "", "  "], "a.txt b.md d/keep d/sub/y d/sub/z.txt n/m/o.txt n/p.md"),
        (["[ab].*"], "d/keep d/sub/y d/sub/z.txt n/m/o.txt n/p.md"),
        (["[^a]*"], "a.txt"),
        (["\\a.txt"], "b.md d/keep d/sub/y d/sub/z.txt n/m/o.txt n/p.md"),
    ],
)
def test_what_is_kept(tmp_path: Path, patterns: list[str], kept: str) -> None:
    context = written(tmp_path / "context", FILES)
    (context / ".dockerignore").write_text("\n".join([*patterns, ".dockerignore"]))
    root = build("FROM scratch\nCOPY . /", context, tmp_path).root
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert files == set(kept.split())


def test_an_ignored_directory_without_exceptions_is_not_made(tmp_path: Path) -> None:
    context = written(tmp_path / "context", FILES)
    (context / ".dockerignore").write_text("*\n!d/keep")
    root = build("FROM scratch\nCOPY . /", context, tmp_path).root
    assert list(listing(root)) == ["d", "d/keep"]


def test_an_ignored_directory_with_exceptions_is_a_plain_one(tmp_path: Path) -> None:
    context = written(tmp_path / "context", FILES)
    os.chmod(context / "d", 0o700)
    os.utime(context / "d", (1, 1))
    (context / ".dockerignore").write_text("d\n!d/keep")
    root = build("FROM scratch\nCOPY . /e\nCOPY d /f", context, tmp_path).root
    st = os.stat(root / "e/d")
    assert (stat.S_IMODE(st.st_mode), st.st_mtime > 1) == (0o755, True)
    assert list(listing(root / "f")) == ["keep"]


def test_an_ignored_directory_of_which_nothing_is_left_is_not_there(tmp_path: Path) -> None:
    context = written(tmp_path / "context", FILES)
    (context / ".dockerignore").write_text("**\n!d/nothing")
    with pytest.raises(ContainerfileError, match="file not found in build context"):
        build("FROM scratch\nADD d /f", context, tmp_path)


def test_the_file_beside_the_containerfile_wins(tmp_path: Path) -> None:
    context = written(tmp_path / "context", {".dockerignore": "a"})
    written(tmp_path, {"My.file.dockerignore": "\ufeffb\r\nc"})
    fd = os.open(context, os.O_RDONLY)
    try:
        beside = read_ignore(fd, str(tmp_path / "My.file"))
        assert [beside.hides(name) for name in "abc"] == [False, True, True]
        own = read_ignore(fd, str(tmp_path / "Other"))
        assert [own.hides(name) for name in "abc"] == [True, False, False]
        assert read_ignore(fd).hides("a")
    finally:
        os.close(fd)


def test_no_file_ignores_nothing(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert read_ignore(fd).empty
    finally:
        os.close(fd)
    assert not Ignore().hides("a")


def test_a_bad_pattern_is_named(tmp_path: Path) -> None:
    context = written(tmp_path / "context", {".dockerignore": "ok\n[a"})
    fd = os.open(context, os.O_RDONLY)
    try:
        with pytest.raises(StoreError, match=r"\.dockerignore: Invalid ignore pattern '\[a'"):
            read_ignore(fd)
    finally:
        os.close(fd)


def test_an_ignore_file_that_is_a_directory_is_named(tmp_path: Path) -> None:
    context = written(tmp_path / "context", {".dockerignore": None})
    fd = os.open(context, os.O_RDONLY)
    try:
        with pytest.raises(StoreError, match=r"\.dockerignore cannot be read: Is a directory"):
            read_ignore(fd)
    finally:
        os.close(fd)


def test_an_ignore_file_that_is_a_fifo_is_named(tmp_path: Path) -> None:
    context = written(tmp_path / "context", {})
    os.mkfifo(context / ".dockerignore")
    fd = os.open(context, os.O_RDONLY)
    try:
        with pytest.raises(StoreError, match=r"\.dockerignore cannot be read: it is a FIFO"):
            read_ignore(fd)
    finally:
        os.close(fd)


def test_a_huge_ignore_file_is_refused(tmp_path: Path) -> None:
    context = written(tmp_path / "context", {".dockerignore": "a\n" * (3 << 20)})
    fd = os.open(context, os.O_RDONLY)
    try:
        with pytest.raises(StoreError, match="larger than 4 MiB"):
            read_ignore(fd)
    finally:
        os.close(fd)
