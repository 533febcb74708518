"""Copies of a file's bytes: by reflink, by the kernel, and by read and write."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.helpers.unions import errno_of
from unionfs.syscalls import copyfile

HOLE = 1 << 20


@pytest.mark.parametrize("refused", [None, errno.EXDEV, errno.EOPNOTSUPP])
@pytest.mark.parametrize("size", [0, 1, 3 * HOLE + 5, 2 * HOLE + 1, 4 * HOLE])
def test_holes_stay_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, refused: int | None
) -> None:
    """With copy_file_range(2), and with read and write where it is refused."""
    if refused is not None:

        def fail(*_args: object) -> int:
            raise OSError(refused, "refused")

        monkeypatch.setattr(os, "copy_file_range", fail)
    with (tmp_path / "from").open("wb+") as source, (tmp_path / "to").open("wb+") as target:
        os.pwrite(source.fileno(), b"a" * 5000, 0)
        os.pwrite(source.fileno(), b"b" * 5000, 2 * HOLE)
        os.ftruncate(source.fileno(), 3 * HOLE + 5)
        wanted = (tmp_path / "from").read_bytes()[:size].ljust(size, b"\0")
        copyfile.copy_range(source.fileno(), target.fileno(), size, holes=True)
        assert (tmp_path / "to").read_bytes() == wanted
        assert (tmp_path / "to").stat().st_blocks * 512 < HOLE


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 16) + 1, HOLE + 3])
def test_files_without_holes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "from").write_bytes(data)
    with (tmp_path / "from").open("rb") as source, (tmp_path / "to").open("wb") as target:
        copyfile.copy_range(source.fileno(), target.fileno(), size, holes=False)
    assert (tmp_path / "to").read_bytes() == data


def test_a_reflink_shares_everything_or_is_refused(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"data" * 5000)
    with (tmp_path / "from").open("rb") as source, (tmp_path / "to").open("wb") as target:
        done = copyfile.try_reflink(source.fileno(), target.fileno())
    assert (tmp_path / "to").read_bytes() == (b"data" * 5000 if done else b"")


def test_pause_stops_the_copy_by_its_exception(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(bytes(HOLE))

    def stop() -> None:
        raise InterruptedError(errno.EINTR, "stopped")

    with (tmp_path / "from").open("rb") as source, (tmp_path / "to").open("wb") as target:
        src, dst = source.fileno(), target.fileno()
        with pytest.raises(InterruptedError, match="stopped"):
            copyfile.copy_range(src, dst, HOLE, holes=False, pause=stop)
    assert (tmp_path / "to").stat().st_size == 0


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("holes", [False, True])
def test_each_part_is_reported_once_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool, holes: bool
) -> None:
    data = os.urandom(2 * HOLE + 5)
    (tmp_path / "from").write_bytes(data)
    parts: list[tuple[int, int]] = []

    def note(offset: int, length: int) -> None:
        assert (tmp_path / "to").read_bytes()[offset:] == data[offset : offset + length]
        parts.append((offset, length))

    def fail(*_args: object) -> int:
        raise OSError(errno.EXDEV, "refused")

    if refused:
        monkeypatch.setattr(os, "copy_file_range", fail)
    with (tmp_path / "from").open("rb") as source, (tmp_path / "to").open("wb") as target:
        src, dst = source.fileno(), target.fileno()
        copyfile.copy_range(src, dst, len(data), holes=holes, written=note)
    assert parts == [(0, HOLE), (HOLE, HOLE), (2 * HOLE, 5)]


def test_an_error_of_the_disk_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an error that says "not here" leads to read and write."""
    (tmp_path / "from").write_bytes(bytes(HOLE))

    def fail(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "copy_file_range", fail)
    with (tmp_path / "from").open("rb") as source, (tmp_path / "to").open("wb") as target:
        src, dst = source.fileno(), target.fileno()
        number = errno_of(lambda: copyfile.copy_range(src, dst, HOLE, holes=False))
    assert number == errno.ENOSPC


def test_all_is_written_if_the_kernel_takes_a_part_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data)[:3], at))
    with open(tmp_path / "file", "w+b") as file:
        copyfile.write_at(file.fileno(), b"0123456789", 5)
    assert (tmp_path / "file").read_bytes() == bytes(5) + b"0123456789"
