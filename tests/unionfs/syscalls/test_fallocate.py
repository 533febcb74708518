"""Room for a range of an open file, and holes in it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.helpers.unions import errno_of
from unionfs.syscalls.fallocate import fallocate

KEEP_SIZE = 1
PUNCH_HOLE = 2


def test_allocation_extends_the_file(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb+") as file:
        fallocate(file.fileno(), 0, 0, 10_000)
        assert os.fstat(file.fileno()).st_size == 10_000


def test_allocation_may_keep_the_size(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb+") as file:
        fallocate(file.fileno(), KEEP_SIZE, 0, 1 << 20)
        st = os.fstat(file.fileno())
    assert st.st_size == 0
    assert st.st_blocks * 512 >= 1 << 20


def test_a_punched_hole_reads_as_zeros(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 12_288)
    with path.open("rb+") as file:
        fallocate(file.fileno(), PUNCH_HOLE | KEEP_SIZE, 4096, 4096)
    assert path.read_bytes() == b"x" * 4096 + bytes(4096) + b"x" * 4096


def test_a_range_of_no_bytes_is_einval(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb+") as file:
        assert errno_of(lambda: fallocate(file.fileno(), 0, 0, 0)) == errno.EINVAL
