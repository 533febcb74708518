"""statx(2) against stat(2), and the fields of struct statx."""

from __future__ import annotations

import errno
import os
import struct
import sys
from pathlib import Path

from tests.helpers.unions import errno_of
from unionfs.syscalls.statx import SIZE, put_attributes, statx
from unionfs.types import ROOT_NODEID, Attr, StIno

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


def test_own_attributes_leave_it_as_it_is(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").write_bytes(b"1" * 10_000)
    os.link(tmp_path / "file", tmp_path / "other")
    st = (tmp_path / "file").stat()
    buffer = statx(folder, b"file", BASIC_STATS)
    real = bytes(buffer)
    put_attributes(
        buffer,
        Attr(ROOT_NODEID, StIno(st.st_ino), st.st_nlink, st.st_uid, st.st_gid, st.st_blocks, st),
    )
    assert bytes(buffer) == real


def test_other_attributes_change_their_fields_alone(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "later").touch()
    later = (tmp_path / "later").stat()
    buffer = statx(folder, b"file", BASIC_STATS)
    real = bytes(buffer)
    put_attributes(buffer, Attr(ROOT_NODEID, StIno(1 << 40), 3, 4, 5, 1 << 41, later))
    ids = b"".join(number.to_bytes(4, sys.byteorder) for number in (3, 4, 5))
    ino, blocks = ((1 << bits).to_bytes(8, sys.byteorder) for bits in (40, 41))
    seconds, ns = divmod(later.st_ctime_ns, 10**9)
    ctime = seconds.to_bytes(8, sys.byteorder) + ns.to_bytes(4, sys.byteorder)
    assert buffer == b"".join(
        (real[:16], ids, real[28:32], ino, real[40:48], blocks, real[56:96], ctime, real[108:])
    )
