"""Asking the disk for files ahead of a program: for which, how far, and when it stops."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers.calls import cached_pages
from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.mounts import wait_until
from tests.helpers.unions import core, state
from tests.unionfs.core.test_stage_ahead import listed
from unionfs.core import files_ahead
from unionfs.core.files_ahead import LARGEST, MOST
from unionfs.core.inode import SMALL
from unionfs.core.layer import Fd
from unionfs.syscalls.statfs import RAMFS, TMPFS, filesystem_type

FILES = 60
CONTENT = {f"f{number:02}": f"content of {number}" for number in range(FILES)}
PAGES = LARGEST // mmap.PAGESIZE
DISK_NS, MEMORY_NS = 10_000, 100


class Disk:
    """Notes what is asked for; each takes `took_ns`."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.took_ns = DISK_NS
        self.error = 0

    def ask(self, dir_fd: int, name: bytes) -> int:
        os.stat(name, dir_fd=dir_fd)
        self.asked.append(name)
        if self.error:
            raise OSError(self.error, "")
        return self.took_ns


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(files_ahead, "ask", disk.ask)
    return disk


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[CoreDriver]:
    content = CONTENT | {"other": dict(CONTENT), "mixed": dict(CONTENT)}
    with Layers(tmp_path, content).union() as tree:
        come_from_disk(tree)
        yield tree


def come_from_disk(tree: CoreDriver) -> None:
    """Let what is read count as coming from a disk that takes too long to measure again."""
    state(tree).reads_disk, state(tree).read_ns = True, 1 << 40


def read(tree: CoreDriver, name: bytes, limit: int = SMALL) -> None:
    """Read a file as the first open of it does."""
    union = core(tree)
    fh = union.open(tree.get(name).nodeid, os.O_RDONLY)
    with suppress(BlockingIOError):  # as it says of what would have to be waited for
        assert union.first_content(fh, limit, wait=False)
    union.release(fh)


def test_files_in_order_from_the_disk_bring_those_that_follow(tree: CoreDriver, disk: Disk) -> None:
    names = listed(tree)
    for at, name in enumerate(names):
        read(tree, name)
        assert name in disk.asked or at < 2
        assert len(disk.asked) <= max(0, at - 1) + MOST, "no farther than this"
    assert disk.asked == names[2:], "each once, in order"


def test_files_in_memory_bring_nothing(tree: CoreDriver, disk: Disk) -> None:
    state(tree).reads_disk = False
    for name in listed(tree):
        read(tree, name)
    assert disk.asked == []


def test_a_run_goes_on_although_its_files_now_come_from_memory(
    tree: CoreDriver, disk: Disk
) -> None:
    names = listed(tree)
    read(tree, names[0])
    state(tree).reads_disk = False
    for name in names[1:]:
        read(tree, name)
    assert disk.asked == names[2:]


def test_a_directory_whose_files_are_in_memory_is_left_alone(tree: CoreDriver, disk: Disk) -> None:
    disk.took_ns = MEMORY_NS
    for name in listed(tree):
        read(tree, name)
    assert 0 < len(disk.asked) <= MOST


def test_files_in_no_order_bring_nothing(tree: CoreDriver, disk: Disk) -> None:
    for name in listed(tree)[::-1]:
        read(tree, name)
    assert disk.asked == []


def test_a_run_in_one_directory_makes_one_in_the_next_likely(tree: CoreDriver, disk: Disk) -> None:
    for name in listed(tree)[:4]:
        read(tree, name)
    others = listed(tree, b"other")
    disk.asked.clear()
    read(tree, others[0])
    assert disk.asked == [os.path.basename(name) for name in others[1 : 1 + len(disk.asked)]] != []


def test_programs_that_read_different_directories_do_not_disturb_each_other(
    tree: CoreDriver, disk: Disk
) -> None:
    others = listed(tree, b"other")
    for pair in zip(listed(tree), others, strict=False):
        for name in pair:
            read(tree, name)
    assert len(disk.asked) == 2 * (FILES - 2)


def test_a_file_that_is_opened_again_does_not_end_the_run(tree: CoreDriver, disk: Disk) -> None:
    """As when a worker serves an open that would have had to wait."""
    names = listed(tree)
    for name in names:
        read(tree, name)
        read(tree, name)
    assert disk.asked == names[2:]


def test_a_directory_that_was_not_listed_brings_nothing(tree: CoreDriver, disk: Disk) -> None:
    for name in sorted(CONTENT):
        read(tree, name.encode())
    assert disk.asked == []


def test_only_regular_files_of_lowers_are_asked_for(tree: CoreDriver, disk: Disk) -> None:
    names = listed(tree, b"mixed")
    tree.unlink(names[3])
    tree.chmod(names[4], 0o600)
    tree.unlink(names[5])
    tree.mkdir(names[5], 0o755)
    for name in names[:3]:
        read(tree, name)
    gone = {os.path.basename(name) for name in names[3:6]}
    assert disk.asked and not gone & set(disk.asked)


def test_what_cannot_be_asked_for_is_no_error(tree: CoreDriver, disk: Disk) -> None:
    disk.error = errno.EACCES
    for name in listed(tree):
        read(tree, name)
    assert disk.asked


def test_layers_that_may_change_are_left_alone(tmp_path: Path) -> None:
    with Layers(tmp_path, CONTENT).union(timeout=1.0) as tree:
        assert state(tree).files_ahead is None


def test_the_files_really_come_into_memory(tmp_path: Path) -> None:
    if filesystem_type(Fd(os.open(tmp_path, os.O_RDONLY))) in (TMPFS, RAMFS):
        pytest.skip("needs a filesystem on a disk")
    layers = Layers(tmp_path, dict.fromkeys(CONTENT, "x" * LARGEST))
    (lower,) = layers.lowers
    for path in lower.iterdir():
        fd = Fd(os.open(path, os.O_RDONLY))
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if pages_of(path):
            pytest.skip("the filesystem keeps what nobody needs")
    before = atimes(lower)
    with layers.union() as tree:
        names = listed(tree)
        come_from_disk(tree)
        for name in names[:2]:
            read(tree, name, LARGEST)
        for path in [lower / name.decode() for name in names[2:4]]:
            wait_until(lambda path=path: pages_of(path) == PAGES, path.name)  # type: ignore[misc]
        assert not pages_of(lower / names[-1].decode())
    assert atimes(lower) == before


def atimes(directory: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_atime_ns for entry in os.scandir(directory)}


def pages_of(path: Path) -> int:
    try:
        return cached_pages(path)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        pytest.skip(f"cachestat(2): {error.strerror}")
