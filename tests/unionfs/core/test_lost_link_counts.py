"""Links of a lower file that go before the file is ever copied up."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from tests.helpers.layers import Layers
from tests.helpers.trees import assert_same, snapshot
from tests.helpers.unions import core, nodeid
from unionfs.core.real_file import with_ctime
from unionfs.types import ROOT_NODEID

STATX_CTIME = 0x80


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    """Return a lower in which `a`, `b` and `c` are one file."""
    layers = Layers(tmp_path, {"a": "data", "new": "other"})
    for name in ("b", "c"):
        (layers.lowers[0] / name).hardlink_to(layers.lowers[0] / "a")
    return layers


def test_the_count_outlives_a_remount(layers: Layers) -> None:
    with layers.union() as tree:
        tree.unlink(b"a")
        assert tree.lstat(b"b").nlink == 2
    with layers.union() as tree:
        assert tree.lstat(b"b").nlink == 2
        tree.rename(b"new", b"c", 0)
        assert tree.lstat(b"b").nlink == 1
        wanted = snapshot(tree)
    assert_same(wanted, layers.look())


def test_nothing_is_copied_up(layers: Layers) -> None:
    with layers.union() as tree:
        tree.unlink(b"a")
        assert tree.fs.counters()["copy_ups"] == 0


def test_ctime_tells_of_the_loss(layers: Layers) -> None:
    def ctime_ns() -> int:
        attr = tree.fs.lookup(ROOT_NODEID, b"b")
        assert attr is not None
        tree.fs.forget(attr.nodeid, 1)
        return attr.st.st_ctime_ns

    with layers.union() as tree:
        before = ctime_ns()
        tree.unlink(b"a")
        after = ctime_ns()
        assert after > before
        tree.forget_all()
        assert ctime_ns() == after
    with layers.union() as tree:
        assert ctime_ns() == after
        tree.chmod(b"b", 0o600)
        assert ctime_ns() >= after


def test_statx_tells_of_it_too(layers: Layers) -> None:
    with layers.union() as tree:
        before = core(tree).statx(nodeid(tree, b"b"), STATX_CTIME)[1][96:108]
        tree.unlink(b"a")
        attr, after = core(tree).statx(nodeid(tree, b"b"), STATX_CTIME)
        assert after[96:108] != before
        assert divmod(attr.st.st_ctime_ns, 10**9) == struct.unpack("=qI", after[96:108])
        assert (attr.st_nlink, attr.st_uid, attr.st_gid) == struct.unpack("=III", after[16:28])
        assert (attr.st_ino,) == struct.unpack("=Q", after[32:40])


def test_a_copy_up_takes_the_count_over(layers: Layers) -> None:
    """What the index counts is not counted down once more at the next mount."""
    with layers.union() as tree:
        tree.unlink(b"a")
        tree.chmod(b"b", 0o600)
        assert tree.lstat(b"c").nlink == 2
        tree.link(b"c", b"a")
        wanted = snapshot(tree)
    assert wanted[b"a"].nlink == 3
    assert_same(wanted, layers.look())


def test_a_line_without_sense_is_ignored(layers: Layers) -> None:
    with layers.union() as tree:
        tree.unlink(b"a")
    with (layers.work / "lostlinks").open("ab") as file:
        file.write(b"nonsense\n00fb 1\n00")
    assert layers.look()[b"b"].nlink == 2


def test_a_link_that_is_back_is_counted_after_a_remount_too(layers: Layers) -> None:
    with layers.union() as tree:
        tree.unlink(b"a")
        tree.unlink(b"b")
        assert tree.lstat(b"c").nlink == 1
        core(tree).restore(b"a")
        assert tree.lstat(b"c").nlink == 2
    with layers.union() as tree:
        assert tree.lstat(b"c").nlink == 2
        core(tree).restore(b"b")
        assert tree.lstat(b"c").nlink == 3
    assert layers.look()[b"a"].nlink == 3


def test_without_an_index_each_name_is_a_file_of_its_own(layers: Layers) -> None:
    with layers.union(index=False) as tree:
        tree.unlink(b"a")
        assert tree.lstat(b"b").nlink == 3
    assert not (layers.work / "lostlinks").exists()


def test_a_later_ctime_is_the_same_however_it_is_read(tmp_path: Path) -> None:
    st = os.stat(tmp_path)
    later = with_ctime(st, st.st_ctime_ns + 5 * 10**9)
    assert later.st_ctime_ns == st.st_ctime_ns + 5 * 10**9
    assert later[stat.ST_CTIME] == st[stat.ST_CTIME] + 5
    assert (later.st_mtime_ns, later[stat.ST_MTIME]) == (st.st_mtime_ns, st[stat.ST_MTIME])
