"""Values that the core and the transports exchange, as a real union returns them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.helpers.layers import Layers
from tests.helpers.mounts import require_root
from tests.helpers.unions import core, errno_of, nodeid
from unionfs.types import ROOT_NODEID, DirEntry, SetAttr, changed_stat


def test_an_attr_overrides_numbers_of_the_real_file(tmp_path: Path) -> None:
    require_root()
    layers = Layers(tmp_path, {"dir": {"file": "12345"}})
    with layers.union() as tree:
        file = core(tree).getattr(nodeid(tree, b"dir/file"))
        real = (layers.lowers[0] / "dir/file").stat()
        assert (file.st.st_size, file.st_nlink, file.st_ino) == (5, 1, real.st_ino)
        assert core(tree).getattr(ROOT_NODEID).nodeid == ROOT_NODEID


def test_a_nodeid_is_no_st_ino(tmp_path: Path) -> None:
    """mypy refuses to take one for the other: it reports an ignore that it does not need."""
    require_root()
    layers = Layers(tmp_path, {"file": ""})
    with layers.union() as tree:
        root = core(tree).getattr(ROOT_NODEID)
        by_ino = root.st_ino
        assert errno_of(lambda: core(tree).getattr(by_ino)) == errno.ESTALE  # type: ignore[arg-type]
        real = layers.lowers[0].stat().st_ino
        assert errno_of(lambda: core(tree).getattr(real)) == errno.ESTALE  # type: ignore[arg-type]
        dot = next(core(tree).listdir(ROOT_NODEID, 0))
        assert dot != DirEntry(1, b".", 4, root.nodeid)  # type: ignore[arg-type]


def test_a_change_of_nothing_changes_nothing(tmp_path: Path) -> None:
    require_root()
    layers = Layers(tmp_path, {"file": "12345"})
    with layers.union() as tree:
        number = nodeid(tree, b"file")
        before = core(tree).getattr(number)
        after = core(tree).setattr(number, SetAttr(), None)
        assert (after.st_ino, after.st.st_mtime_ns) == (before.st_ino, before.st.st_mtime_ns)
        changed = core(tree).setattr(number, SetAttr(mode=0o600, mtime_ns=7), None)
        assert changed.st.st_mode & 0o7777 == 0o600
        assert changed.st.st_mtime_ns == 7
        assert changed.st.st_atime_ns == before.st.st_atime_ns
        assert changed.st_ino == before.st_ino


def test_a_change_has_no_attribute_that_does_not_exist() -> None:
    change = SetAttr()
    with pytest.raises(AttributeError):
        change.ctime_ns = 1  # type: ignore[attr-defined]


def test_each_cookie_continues_behind_its_name(tmp_path: Path) -> None:
    require_root()
    layers = Layers(tmp_path, {"a": "", "b": "", "c": {}})
    with layers.union() as tree:
        everything = list(core(tree).listdir(ROOT_NODEID, 0))
        assert sorted(entry.name for entry in everything) == [b".", b"..", b"a", b"b", b"c"]
        for number, entry in enumerate(everything):
            rest = [later.name for later in core(tree).listdir(ROOT_NODEID, entry.cookie)]
            assert rest == [later.name for later in everything[number + 1 :]]
        types = {entry.name: entry.d_type for entry in everything}
        assert types[b"a"] == 8 and types[b"c"] == 4, "DT_REG and DT_DIR"


def test_a_backing_tells_lower_from_upper(tmp_path: Path) -> None:
    require_root()
    layers = Layers(tmp_path, {"file": "x" * 100_000})
    with layers.union() as tree:
        number = nodeid(tree, b"file")
        reader = core(tree).open(number, os.O_RDONLY)
        lower = core(tree).backing(reader)
        writer = core(tree).open(number, os.O_RDWR)
        upper = core(tree).backing(writer)
        assert lower is not None and upper is not None
        assert (lower.may_change, lower.pristine) == (False, True)
        assert (upper.may_change, upper.pristine) == (True, False)
        assert upper.version > lower.version
        del lower, upper  # each keeps its file open
        core(tree).release(reader)
        core(tree).release(writer)


def test_a_changed_stat_keeps_the_other_fields(tmp_path: Path) -> None:
    """Python 3.13 refuses to make a stat_result of what older ones take: run under each."""
    (tmp_path / "file").write_bytes(b"x" * 5000)
    st = os.stat(tmp_path / "file")
    later = st.st_ctime_ns + 7_000_000_001
    changed = changed_stat(
        st, {stat.ST_CTIME: later // 10**9, stat.ST_NLINK: 4}, st_ctime_ns=later, st_rdev=259
    )
    new = {"st_nlink": 4, "st_rdev": 259, "st_ctime_ns": later, "st_ctime": later / 1e9}
    for name in [name for name in dir(st) if name.startswith("st_")]:
        assert getattr(changed, name) == new.get(name, getattr(st, name)), name
    assert changed[stat.ST_CTIME] == later // 10**9
    assert changed[stat.ST_MTIME] == st[stat.ST_MTIME]
