"""Paths opened beneath a root: nothing leads out of it, with the system call and without."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.unions import errno_of
from unionfs.syscalls.openat2 import open_in_root, walk_in_root

Open = Callable[[int, bytes, int], int]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "secret").write_text("outside")
    inner = tmp_path / "root"
    (inner / "a/b").mkdir(parents=True)
    (inner / "a/b/file").write_text("inside")
    (inner / "secret").write_text("inside")
    for name, target in {
        "up": "../secret",
        "climb": "../../../../secret",
        "absolute": "/a/b",
        "host": str(tmp_path / "secret"),
        "loop": "loop",
        "a/back": "../a/b/../b",
        "magic": "/proc/self/root",
    }.items():
        (inner / name).symlink_to(target)
    fd = os.open(inner, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture(params=[open_in_root, walk_in_root])
def opened(request: pytest.FixtureRequest, root: int) -> Callable[[bytes], str]:
    way: Open = request.param

    def read(path: bytes, flags: int = os.O_RDONLY) -> str:
        with open(way(root, path, flags | os.O_CLOEXEC)) as file:
            return file.read()

    return read


@pytest.mark.parametrize(
    "path",
    [
        b"a/b/file",
        b"/a/b/file",
        b"a/./b//file",
        b"absolute/file",
        b"a/back/file",
        b"a/../a/b/file",
        b"../../secret",
        b"up",
        b"climb",
        b"a/b/../../up",
    ],
)
def test_inside(opened: Callable[[bytes], str], path: bytes) -> None:
    assert opened(path) == "inside"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (b"host", errno.ENOENT),
        (b"loop", errno.ELOOP),
        (b"loop/x", errno.ELOOP),
        (b"none", errno.ENOENT),
        (b"secret/x", errno.ENOTDIR),
        (b"magic", errno.ENOENT),
    ],
)
def test_refused(opened: Callable[[bytes], str], path: bytes, wanted: int) -> None:
    assert errno_of(lambda: opened(path)) == wanted


@pytest.mark.parametrize("way", [open_in_root, walk_in_root])
def test_last_link_and_root(root: int, way: Open) -> None:
    assert errno_of(lambda: way(root, b"up", os.O_RDONLY | os.O_NOFOLLOW)) == errno.ELOOP
    for path in (b"", b".", b"/", b"..", b"a/.."):
        fd = way(root, path, os.O_RDONLY | os.O_DIRECTORY)
        assert os.path.samestat(os.fstat(fd), os.fstat(root))
        os.close(fd)
    fd = way(root, b"a/back", os.O_PATH)
    assert os.path.samestat(os.fstat(fd), os.stat(b"a/b", dir_fd=root))
    os.close(fd)
