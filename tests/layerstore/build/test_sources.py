"""The words of COPY and ADD: what they mean, and what is refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from layerstore.build.sources import (
    ContentSource,
    DirectorySource,
    DownloadSource,
    FileSource,
    ParentsSource,
    Source,
    find_sources,
    is_url,
    walk_parents,
)
from layerstore.build.tree import Tree
from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.instructions import Add, Copy
from layerstore.containerfile.parse import parse
from tests.layerstore.build.mini_build import written


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return written(
        tmp_path,
        {
            "a.txt": "a", "b.txt": "b", "d/x": "x", "d/s/y": "y", "d/s/z.o": "z",
            "la": "->a.txt", "ld": "->d", "broken": "->no", "st*r": "*", "sp ace": "s",
            "e/s/y": "y",
        },
    )  # fmt: skip


def found(root: Path, text: str) -> tuple[Source, ...]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        one = parse("FROM x\n" + text).instructions[1]
        assert isinstance(one, Copy | Add)
        return find_sources(one, Tree(fd)).found
    finally:
        os.close(fd)


def shown(source: Source) -> str:
    match source:
        case FileSource(path, name, _):
            return f"{path} as {name}"
        case DirectorySource(path):
            return f"{path or '.'}/"
        case ParentsSource(base, paths):
            return f"{base or '.'}: {' '.join(paths)}"
        case ContentSource(name, content):
            return f"<<{name} {content!r}"
        case DownloadSource(url):
            return url


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("COPY a.txt /x", ["a.txt as a.txt"]),
        ("COPY /a.txt /x", ["a.txt as a.txt"]),
        ("COPY ./d//x /x", ["d/x as x"]),
        ("COPY la /x", ["a.txt as la"]),
        ("COPY ld/x /x", ["d/x as x"]),
        ("COPY ld /x", ["d/"]),
        ("COPY . /x", ["./"]),
        ("COPY / /x", ["./"]),
        ("COPY d/ /x", ["d/"]),
        ("COPY *.txt /x/", ["a.txt as a.txt", "b.txt as b.txt"]),
        ("COPY a*.txt /x", ["a.txt as a.txt"]),
        ("COPY [a] d* /x/", ["d/"]),
        ("COPY l* /x/", ["a.txt as la", "d/"]),
        ("COPY d/*/y /x/", ["d/s/y as y"]),
        ('COPY ["sp ace", "/x/"]', ["sp ace as sp ace"]),
        ("COPY st[*]r /x/", ["st*r as st*r"]),
        ('COPY ["st\\\\*r", "/x/"]', ["st*r as st*r"]),
        ("COPY a.txt d b.txt /x/", ["a.txt as a.txt", "d/", "b.txt as b.txt"]),
        ("COPY a.txt <<E /x/\nhi\nE", ["a.txt as a.txt", "<<E b'hi\\n'"]),
        ("ADD d /x", ["d/"]),
        ("COPY --parents d/x /x/", [".: d/x"]),
        ("COPY --parents ./d/./s/y /x/", ["d: s/y"]),
        ("COPY --parents d/*/y /x/", [".: d/s/y"]),
        ("COPY --parents d/./**/y /x/", ["d: s/y"]),
        ("COPY --parents **/y /x/", [".: d/s/y e/s/y"]),
        ("COPY --parents [de]/./s /x/", ["d: s", "e: s"]),
        ("COPY --parents d/. /x/", [".: d"]),
    ],
)
def test_sources(root: Path, text: str, sources: list[str]) -> None:
    assert [shown(source) for source in found(root, text)] == sources


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("COPY no /x", "file not found in build context or excluded by .dockerignore: stat no"),
        ("COPY broken /x", "file not found in build context"),
        ("COPY --from=s no /x", "no is not in s: file does not exist"),
        ("COPY no* /x/", "no source files were specified"),
        ("COPY a.txt b.txt /x", "When using COPY with more than one source file, the destination"),
        ("ADD *.txt /x", "When using ADD with more than one source file, the destination"),
        ("COPY --parents **/y /x", "When using COPY with more than one source file"),
        ("COPY ../a.txt /x", "forbidden path outside the build context: ../a.txt"),
        ("COPY d/../../a.txt /x", "forbidden path outside the build context"),
        ("COPY [a /x", "[a is not a pattern"),
        ("COPY https://x/y /x", "source can't be a URL for COPY"),
        ("ADD https://x/y.git /x", "cannot be fetched: clone it"),
        ("ADD https://x/y.git#main /x", "cannot be fetched: clone it"),
        ("ADD git@x:y /x", "cannot be fetched: clone it"),
        ("ADD --checksum=sha256:a a.txt /x", "checksum can't be specified for anything but one"),
        ("ADD --checksum=sha256:a https://x/a https://x/b /x/", "checksum can't be specified"),
        ("COPY sock /x", "sock is a socket, which no image can have"),
    ],
)  # fmt: skip
def test_what_is_refused(root: Path, text: str, reason: str) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(root / "sock"))
    sock.close()
    with pytest.raises(ContainerfileError) as caught:
        found(root, text)
    assert str(caught.value).startswith("Containerfile:2: ")
    assert reason in str(caught.value)


def test_urls_are_for_the_caller(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        one = parse("FROM x\nADD a.txt https://x/y /x/").instructions[1]
        assert isinstance(one, Add)
        sources = find_sources(one, Tree(fd))
    finally:
        os.close(fd)
    assert sources.remote == ("https://x/y",)
    assert len(sources.found) == 1
    assert is_url("http://x")
    assert not is_url("x")


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        (["*.o"], "s s/y s/z.o x"),
        (["**/*.o"], "s s/y x"),
        (["s"], "x"),
        (["s", "!s/y"], "s s/y x"),
        (["s/y", "x"], "s s/z.o"),
    ],
)
def test_exclude(root: Path, patterns: list[str], kept: str) -> None:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = " ".join(f"--exclude={pattern}" for pattern in patterns)
        one = parse(f"FROM x\nCOPY {flags} d /x").instructions[1]
        assert isinstance(one, Copy)
        entries = find_sources(one, Tree(fd)).walk("d")
        assert [entry.path[2:] for entry in entries if entry.depth] == kept.split()
    finally:
        os.close(fd)


def test_a_walk_of_parents_has_each_directory_once(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        one = parse("FROM x\nCOPY --parents d/s/* d/x e /x/").instructions[1]
        assert isinstance(one, Copy)
        sources = find_sources(one, Tree(fd))
        first, second, third = sources.found
        assert isinstance(first, ParentsSource)
        assert isinstance(third, ParentsSource)
        walked = [(e.path, e.depth) for e in walk_parents(first, sources)]
        assert walked == [("d", 1), ("d/s", 2), ("d/s/y", 3), ("d/s/z.o", 3)]
        walked = [(e.path, e.depth) for e in walk_parents(third, sources)]
        assert walked == [("e", 1), ("e/s", 2), ("e/s/y", 3)]
        assert second == ParentsSource("", ("d/x",))
    finally:
        os.close(fd)
