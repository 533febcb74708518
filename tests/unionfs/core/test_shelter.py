"""Files that are open without a name, more of them than there are descriptors for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.unions import state_of
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union
from unionfs.core.union import UnionFs
from unionfs.types import ROOT_NODEID, Fh, NodeId


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[UnionFs]:
    """A union in which the second nameless file has no room for an fd."""
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    for number in range(4):
        (tmp_path / f"lower/{number}").write_text(f"{number}")
    lower, upper, work = (os.fsencode(tmp_path / name) for name in ("lower", "upper", "work"))
    union = open_union(UnionConfig(lowers=(lower,), upper=upper, work=work))
    state_of(union).fds.capacity = 1
    yield union
    union.close()


def opened(fs: UnionFs, name: bytes, flags: int = os.O_RDWR) -> tuple[NodeId, Fh]:
    attr = fs.lookup(ROOT_NODEID, name)
    assert attr is not None
    return attr.nodeid, fs.open(attr.nodeid, flags)


def staged(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "work/work")


def test_a_sheltered_file_is_read_and_written_and_gone_when_closed(
    fs: UnionFs, tmp_path: Path
) -> None:
    files = [opened(fs, b"%d" % number) for number in range(3)]
    for number in range(3):
        fs.unlink(ROOT_NODEID, b"%d" % number)
    sheltered = state_of(fs).require_upper().sheltered
    names = {os.fsdecode(name) for name in sheltered.values()}
    assert len(names & set(staged(tmp_path))) == 2
    for number, (nodeid, fh) in enumerate(files):
        fs.write(fh, 1, b"more")
        fs.close_idle()
        assert fs.read(fh, 0, 10) == b"%dmore" % number
        assert fs.getattr(nodeid).st_nlink == fs.getattr(nodeid, fh).st_nlink == 0
        assert fs.lookup(ROOT_NODEID, b"%d" % number) is None
    second = fs.open(files[2][0], os.O_RDONLY)
    for _, fh in files:
        fs.release(fh)
    assert len(sheltered) == 1
    assert fs.read(second, 0, 10) == b"2more"
    fs.release(second)
    assert not sheltered
    assert not names & set(staged(tmp_path))
    for nodeid, _ in files:
        assert fs.getattr(nodeid).st_nlink == 0
        fs.forget(nodeid, 1)


def test_a_freeze_leaves_it_where_it_is(fs: UnionFs, tmp_path: Path) -> None:
    files = [opened(fs, b"%d" % number) for number in range(3)]
    for number in range(3):
        fs.unlink(ROOT_NODEID, b"%d" % number)
    frozen = fs.freeze(os.fsencode(tmp_path / "frozen"))
    assert frozen.copied == ()
    for number, (nodeid, fh) in enumerate(files):
        fs.write(fh, 1, b"!")
        assert fs.read(fh, 0, 10) == b"%d!" % number
        fs.release(fh)
        fs.forget(nodeid, 1)
    assert sorted(os.listdir(tmp_path / "frozen")) == ["0", "1", "2"]  # whiteouts


def test_what_is_open_at_the_end_is_swept(fs: UnionFs, tmp_path: Path) -> None:
    files = [opened(fs, b"%d" % number) for number in range(3)]
    for number in range(3):
        fs.unlink(ROOT_NODEID, b"%d" % number)
    assert len(state_of(fs).require_upper().sheltered) == 2
    assert files
    fs.close()
    assert staged(tmp_path) == []


def test_fds_are_closed_and_opened_again(fs: UnionFs) -> None:
    """A renamed file too, and one that was copied up meanwhile."""
    _, read = opened(fs, b"0", os.O_RDONLY)
    _, write = opened(fs, b"1")
    fs.write(write, 0, b"one")
    assert fs.close_idle()
    fs.rename(ROOT_NODEID, b"1", ROOT_NODEID, b"moved", 0)
    assert fs.read(write, 0, 10) == b"one"
    assert fs.write(write, 3, b"!") == 1
    _, other = opened(fs, b"0")
    fs.write(other, 0, b"new")
    assert fs.close_idle()
    assert fs.read(read, 0, 10) == b"new"
    for fh in (read, write, other):
        fs.release(fh)
