"""A daemon that may open few files serves trees of many: what nobody has open needs none."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.mounts import Union, mounted_union, require_root, run, wait_until
from tests.helpers.small_disks import small_disk

LIMIT = 256
FILES = 1500
SIZE = 8192  # bytes of each file

WAYS = {
    "uring": ("transport=dev_fuse", "io_uring=on"),
    "read": ("transport=dev_fuse", "io_uring=off"),
    "through-us": ("transport=dev_fuse", "io_uring=off", "passthrough=off"),
    "pyfuse3": ("transport=pyfuse3",),
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem whose free space no other process changes."""
    require_root()
    with small_disk(tmp_path, "ext4", 64 << 20, 2 * FILES) as top:
        yield top


@pytest.fixture(params=WAYS)
def union(request: pytest.FixtureRequest, disk: Path) -> Iterator[Union]:
    """A union served by a daemon that may open `LIMIT` files."""
    way: str = request.param
    if way == "pyfuse3":
        pytest.importorskip("pyfuse3")
    for name in ("lower", "upper", "work"):
        (disk / name).mkdir()
    with contextlib.ExitStack() as stack:
        if way == "uring":
            stack.enter_context(io_uring_enabled())
        union = stack.enter_context(
            mounted_union(
                [disk / "lower"],
                disk / "upper",
                disk / "work",
                WAYS[way],
                runner=("prlimit", f"--nofile={LIMIT}:{LIMIT}"),
            )
        )
        yield union


def open_files(union: Union) -> int:
    return len(os.listdir(f"/proc/{union.pid}/fd"))


def test_many_files_are_removed_and_their_space_is_free(union: Union, disk: Path) -> None:
    top = union.root / "top"
    for number in range(FILES):
        if number % 10 == 0:
            (top / f"{number // 10}").mkdir(parents=True)
        (top / f"{number // 10}" / f"{number}").write_bytes(bytes(SIZE))
    run("sync", "-f", disk)
    before = os.statvfs(disk)
    run("rm", "-rf", top, timeout=120)
    assert list((disk / "upper").iterdir()) == []

    def is_free() -> bool:
        now = os.statvfs(disk)
        return (now.f_bfree - before.f_bfree) * now.f_frsize >= FILES * SIZE

    wait_until(lambda: os.statvfs(disk).f_ffree - before.f_ffree >= FILES, "inodes")
    wait_until(is_free, "the space of the files to be free")


def test_files_that_are_open_are_removed_while_the_limit_is_reached(union: Union) -> None:
    held = []
    for number in range(FILES):
        (union.root / f"{number}").write_bytes(b"%d" % number)
    with contextlib.ExitStack() as stack:
        refused = 0
        for number in range(LIMIT):
            try:
                file = stack.enter_context((union.root / f"{number}").open("rb"))
            except OSError:
                refused += 1
            else:
                held.append((number, file))
        assert refused
        assert len(held) > LIMIT // 4
        for number in range(FILES):
            (union.root / f"{number}").unlink()
        for number, file in held:
            assert os.fstat(file.fileno()).st_nlink == 0
            assert file.read() == b"%d" % number
    assert os.listdir(union.root) == []
    wait_until(lambda: open_files(union) < LIMIT // 2, "the files to be closed")
