"""Names and paths: their bytes, their lengths, their depth."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.cases import names, opened, refused, tree, union_only
from tests.conformance.tree import directory, file

LONGEST = b"n" * 255
STRANGE = (
    b"\xff\xfe",  # no UTF-8
    b"caf\xc3\xa9",
    b"cafe\xcc\x81",  # the same to the eye, decomposed
    b"new\nline",
    b" ",
    b"-rf",
    b"a:b,c\\d",
    b'"quoted"',
    b"*?[x]",
    b"\x01\x7f",
    b"...",
    b"%s%n",
    b"trusted.overlay.opaque",
    b"\xf0\x9f\x90\x8d" * 63,
)


def make(path: bytes) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))


@pytest.mark.parametrize("name", STRANGE)
def test_strange_names(root: Path, name: bytes) -> None:
    """Any bytes but NUL and the slash make a name, found and listed as given."""
    top = os.fsencode(root)
    make(top + b"/" + name)
    assert os.listdir(top) == [name]
    os.rename(top + b"/" + name, top + b"/x")
    os.mkdir(top + b"/" + name)
    assert set(os.listdir(top)) == {name, b"x"}
    os.rmdir(top + b"/" + name)
    assert os.listdir(top) == [b"x"]


@tree(*(file(b"d/" + name, name) for name in STRANGE))
def test_strange_names_of_the_tree(root: Path) -> None:
    """Strange names that were there before are listed, read, changed and removed."""
    top = os.fsencode(root) + b"/d/"
    assert set(os.listdir(top)) == set(STRANGE)
    for name in STRANGE:
        with open(top + name, "r+b") as stream:
            assert stream.read() == name
            stream.write(b"!")
        os.unlink(top + name)
    assert os.listdir(top) == []


@tree(file(LONGEST, b"long"), directory(b"d" * 255))
def test_longest_name(root: Path) -> None:
    """A name of 255 bytes is found, renamed, copied up, removed and made again."""
    top = os.fsencode(root) + b"/"
    with open(top + LONGEST, "ab") as stream:
        stream.write(b"!")
    os.rename(top + LONGEST, top + b"o" * 255)
    assert set(os.listdir(top)) == {b"o" * 255, b"d" * 255}
    os.unlink(top + b"o" * 255)
    os.rename(top + b"d" * 255, top + LONGEST)
    assert os.listdir(top) == [LONGEST]
    os.rmdir(top + LONGEST)
    make(top + LONGEST)
    assert os.listdir(top) == [LONGEST]


TOO_LONG: dict[str, Callable[[str, str], object]] = {
    "open": lambda path, _: os.close(os.open(path, os.O_RDONLY)),
    "create": lambda path, _: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)),
    "mkdir": lambda path, _: os.mkdir(path),
    "mkfifo": lambda path, _: os.mkfifo(path),
    "symlink": lambda path, _: os.symlink("x", path),
    "link": lambda path, there: os.link(there, path),
    "unlink": lambda path, _: os.unlink(path),
    "rmdir": lambda path, _: os.rmdir(path),
    "rename to": lambda path, there: os.rename(there, path),
    "rename from": lambda path, _: os.rename(path, path[:-1]),
    "stat": lambda path, _: os.stat(path),
}


@tree(file("there", b"x"))
@pytest.mark.parametrize("call", TOO_LONG)
def test_name_too_long(root: Path, call: str) -> None:
    """A name of 256 bytes is ENAMETOOLONG for every call, and nothing is made."""
    with refused(errno.ENAMETOOLONG):
        TOO_LONG[call](f"{root}/{'n' * 256}", f"{root}/there")
    assert names(root) == {"there"}


def test_path_too_long(root: Path) -> None:
    """A path of 4096 bytes is ENAMETOOLONG, one of 4095 is walked."""
    longest = f"{root}/".ljust(4094, "/") + "."
    assert os.stat(longest).st_ino == os.stat(root).st_ino
    with refused(errno.ENAMETOOLONG):
        os.stat(longest + ".")


@tree(directory("d/e"))
def test_a_thousand_levels(root: Path) -> None:
    """Directories nest a thousand deep, made, walked and removed by descriptor."""
    fds = [os.open(root / "d" / "e", os.O_RDONLY)]
    try:
        for _ in range(1000):
            os.mkdir("x", dir_fd=fds[-1])
            fds.append(os.open("x", os.O_RDONLY, dir_fd=fds[-1]))
            if len(fds) > 3:
                os.close(fds.pop(0))
        os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fds[-1]))
        assert os.listdir(fds[-1]) == ["leaf"]
        os.unlink("leaf", dir_fd=fds[-1])
        for _ in range(1000):
            parent = os.open("..", os.O_RDONLY, dir_fd=fds[-1])
            os.rmdir("x", dir_fd=parent)
            os.close(fds.pop())
            fds.append(parent)
        assert os.fstat(fds[-1]).st_ino == os.stat(root / "d" / "e").st_ino
    finally:
        for fd in fds:
            os.close(fd)
    assert names(root / "d" / "e") == set()


@tree(directory("/".join(["deep"] * 60)))
def test_change_at_the_end_of_a_deep_path(root: Path) -> None:
    """A file made sixty levels down is there, and so are all its parents."""
    end = root.joinpath(*["deep"] * 60)
    (end / "new").write_bytes(b"new")
    assert names(end) == {"new"}
    assert names(root / "deep") == {"deep"}


@tree(file("Name", b"upper case"))
def test_case_matters(root: Path) -> None:
    """Names that differ in case are different."""
    with refused(errno.ENOENT):
        os.stat(root / "name")
    (root / "name").write_bytes(b"lower case")
    assert names(root) == {"Name", "name"}


@tree(directory("d"), file("f"))
def test_dots_and_slashes(root: Path) -> None:
    """`.`, `..` and repeated slashes lead where they always do."""
    assert os.stat(f"{root}/d/../d/.//../f").st_ino == os.stat(root / "f").st_ino
    with refused(errno.ENOTDIR):
        os.stat(f"{root}/f/.")
    with refused(errno.ENOENT):
        os.stat(f"{root}/none/..")


@union_only
@tree(file("f"), directory("d"))
@pytest.mark.parametrize("name", [".wh.x", ".wh.", ".wh..wh..opq", ".wh.f"])
def test_reserved_names(root: Path, name: str) -> None:
    """Names that mark deletions in an AUFS or OCI layer cannot be made, in any way."""
    path = root / name
    with refused(errno.EPERM), opened(path, os.O_CREAT | os.O_WRONLY):
        pass
    with refused(errno.EPERM):
        os.mkdir(path)
    with refused(errno.EPERM):
        os.mkfifo(path)
    with refused(errno.EPERM):
        os.symlink("x", path)
    with refused(errno.EPERM):
        os.link(root / "f", path)
    with refused(errno.EPERM):
        os.rename(root / "d", path)
    with refused(errno.ENOENT):
        os.stat(path)
    assert names(root) == {"f", "d"}


@tree(file(".whatever"), file(".wh"))
def test_names_that_look_reserved(root: Path) -> None:
    """Names that only begin like a mark are ordinary."""
    assert names(root) == {".whatever", ".wh"}
    (root / ".whx").write_bytes(b"")
    os.unlink(root / ".wh")
    assert names(root) == {".whatever", ".whx"}
