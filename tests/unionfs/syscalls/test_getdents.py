"""What a directory is read as: each entry once, with its type, from the beginning each time."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.unions import errno_of
from unionfs.syscalls import getdents

MANY = 3000  # more than a buffer holds


@pytest.fixture(params=["getdents64", "readdir"], autouse=True)
def with_call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the call of the C library, and with one that lacks it."""
    if request.param == "readdir":
        monkeypatch.setattr(getdents, "call", None)
    return bool(request.param == "getdents64")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def wanted(folder: Path) -> dict[bytes, tuple[int, int]]:
    found = {}
    for name in os.listdir(os.fsencode(folder)):
        st = os.lstat(os.fsencode(folder) + b"/" + name)
        found[name] = st.st_ino, stat.S_IFMT(st.st_mode) >> 12
    return found


def read(fd: int) -> dict[bytes, tuple[int, int]]:
    found = list(getdents.entries(fd))
    assert len({name for name, _, _ in found}) == len(found), "an entry came twice"
    return {name: (ino, d_type) for name, ino, d_type in found}


def test_an_empty_directory_has_no_entries(opened: int) -> None:
    assert read(opened) == {}


def test_names_of_every_kind(tmp_path: Path, opened: int) -> None:
    base = os.fsencode(tmp_path)
    for name in (b"a", b"...", b"..x", b"\xff\xfe", b"\n", b"n" * 255, b"abcd"):
        os.close(os.open(base + b"/" + name, os.O_CREAT, 0o600))
    assert read(opened) == wanted(tmp_path)


def test_types(tmp_path: Path, opened: int, with_call: bool) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fspath(tmp_path / "socket"))
    found, there = read(opened), wanted(tmp_path)
    if not with_call:
        there |= {name: (there[name][0], 0) for name in (b"fifo", b"socket")}  # it does not say
    assert found == there


def test_many_names_and_again(tmp_path: Path, opened: int) -> None:
    for number in range(MANY):
        (tmp_path / f"name{number}").touch()
    there = wanted(tmp_path)
    assert read(opened) == there
    assert read(opened) == there


def test_each_reading_begins_at_the_beginning(tmp_path: Path, opened: int) -> None:
    for number in range(MANY):
        (tmp_path / f"name{number}").touch()
    some = getdents.entries(opened)
    next(some)
    del some
    assert read(opened) == wanted(tmp_path)
    os.lseek(opened, 1, os.SEEK_SET)
    assert read(opened) == wanted(tmp_path)


def test_two_are_read_at_the_same_time(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        for number in range(MANY):
            (tmp_path / folder / f"{folder}{number}").touch()
    fds = [os.open(tmp_path / folder, os.O_RDONLY) for folder in ("one", "other")]
    try:
        pairs = list(zip(*map(getdents.entries, fds), strict=True))
    finally:
        for fd in fds:
            os.close(fd)
    assert {one[0] for one, _ in pairs} == {b"one%d" % number for number in range(MANY)}
    assert {other[0] for _, other in pairs} == {b"other%d" % number for number in range(MANY)}


def test_a_removed_directory_has_no_entries(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    fd = os.open(tmp_path / "gone", os.O_RDONLY)
    try:
        (tmp_path / "gone").rmdir()
        assert read(fd) == {}
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("name", "flags", "code"),
    [(".", os.O_PATH, errno.EBADF), ("file", os.O_RDONLY, errno.ENOTDIR)],
)
def test_what_cannot_be_listed(tmp_path: Path, name: str, flags: int, code: int) -> None:
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / name, flags)
    try:
        assert errno_of(lambda: read(fd)) == code
    finally:
        os.close(fd)
