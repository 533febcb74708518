"""The answers of a union as pyfuse3 takes them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from unionfs.transports.pyfuse3_answers import Answers, name_only, statfs_of
from unionfs.types import ROOT_NODEID, Attr, NodeId, StIno

OWN = ("st_ino", "st_nlink", "st_uid", "st_gid", "st_blocks")
REAL = ("st_mode", "st_rdev", "st_size", "st_blksize", "st_atime_ns", "st_mtime_ns", "st_ctime_ns")


@pytest.fixture
def st(tmp_path: Path) -> os.stat_result:
    (tmp_path / "file").write_bytes(b"content")
    os.utime(tmp_path / "file", ns=(11, 22))
    return os.stat(tmp_path / "file")


def test_an_entry_has_each_attribute_of_the_union_or_the_real_file(st: os.stat_result) -> None:
    answer = Answers(5.0).entry(Attr(NodeId(90), StIno(91), 92, 93, 94, 95, st))
    assert [getattr(answer, name) for name in OWN] == [90, 92, 93, 94, 95]
    assert [getattr(answer, name) for name in REAL] == [getattr(st, name) for name in REAL]
    assert (answer.entry_timeout, answer.attr_timeout) == (5.0, 5.0)


def test_only_the_root_shows_another_number_than_its_nodeid(st: os.stat_result) -> None:
    def number(nodeid: int) -> int:
        attr = Attr(NodeId(nodeid), StIno(91), 1, 0, 0, 0, st)
        return int(Answers(5.0).attributes(attr).st_ino)

    assert (number(ROOT_NODEID), number(90)) == (91, 90)


def test_an_absent_name_is_remembered_as_long_as_names_are() -> None:
    absent = Answers(5.0).absent
    assert absent is not None and (absent.st_ino, absent.entry_timeout) == (0, 5.0)
    assert Answers(0).absent is None


def test_a_name_alone_has_a_type_and_is_not_remembered() -> None:
    answer = name_only(StIno(7), 4)
    assert (answer.st_ino, answer.st_mode, answer.entry_timeout) == (7, stat.S_IFDIR, 0)


def test_statfs_has_each_field(tmp_path: Path) -> None:
    real = os.statvfs(tmp_path)
    answer = statfs_of(real)
    for name in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail"):
        assert getattr(answer, f"f_{name}") == getattr(real, f"f_{name}"), name
    assert answer.f_namemax == real.f_namemax
