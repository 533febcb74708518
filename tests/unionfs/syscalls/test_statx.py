"""statx(2) against stat(2)."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

from tests.helpers.unions import errno_of
from unionfs.syscalls.statx import SIZE, statx

BASIC_STATS = 0x7FF


def mode_and_ino(answer: bytes | bytearray) -> tuple[int, int]:
    """Return stx_mode and stx_ino."""
    mode, ino = struct.unpack_from("=H2xQ", answer, 28)
    return mode, ino


def test_the_attributes_are_those_of_stat(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").write_text("12345")
    answer = statx(folder, b"file", BASIC_STATS)
    st = (tmp_path / "file").stat()
    assert len(answer) == SIZE
    assert mode_and_ino(answer) == (st.st_mode, st.st_ino)
    assert int.from_bytes(answer[40:48], "little") == 5


def test_an_empty_name_is_the_open_file_itself(folder: int) -> None:
    st = os.fstat(folder)
    assert mode_and_ino(statx(folder, b"", BASIC_STATS)) == (st.st_mode, st.st_ino)


def test_a_link_is_not_followed(tmp_path: Path, folder: int) -> None:
    (tmp_path / "link").symlink_to("none")
    st = (tmp_path / "link").lstat()
    assert mode_and_ino(statx(folder, b"link", BASIC_STATS)) == (st.st_mode, st.st_ino)


def test_a_missing_name_is_enoent(folder: int) -> None:
    assert errno_of(lambda: statx(folder, b"none", BASIC_STATS)) == errno.ENOENT
