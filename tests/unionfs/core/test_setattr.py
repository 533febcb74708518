"""chmod, truncate and utimensat copy up what they change, and only that."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.unions import errno_of, nodeid
from unionfs.credentials import Credentials
from unionfs.types import SetAttr


def test_truncate_copies_only_the_bytes_that_are_kept(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "0123456789", "other": "x"})
    with layers.union() as tree:
        tree.truncate(b"file", 4)
        assert tree.read(b"file") == b"0123"
    assert (layers.upper / "file").read_bytes() == b"0123"
    assert os.listdir(layers.upper) == ["file"]


def test_mode_and_times_of_a_lower_directory_change_in_the_upper(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"file": "x"}})
    with layers.union() as tree:
        tree.chmod(b"d", 0o711)
        tree.utimens(b"d", 1_000_000_007, 2_000_000_009)
    found = os.stat(layers.upper / "d")
    assert (found.st_mode & 0o7777, found.st_mtime_ns) == (0o711, 2_000_000_009)
    assert os.listdir(layers.upper / "d") == []


CHANGES: list[Callable[[CoreDriver], object]] = [
    lambda tree: tree.chmod(b"file", 0o604),
    lambda tree: tree.chown(b"file", 7, 8),
    lambda tree: tree.utimens(b"file", 1_000_000_007, 2_000_000_009),
]


@pytest.mark.parametrize("metacopy", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=["chmod", "chown", "utimens"])
def test_a_copy_has_its_change_when_it_gets_its_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[CoreDriver], object],
    metacopy: bool,
) -> None:
    """After a crash the file is the old one or the new one, and not a copy of the old one."""
    layers = Layers(tmp_path, {"file": "0123456789"})
    rename, named = os.rename, list[os.stat_result]()

    def note(source: bytes, target: bytes, **places: int) -> None:
        named.append(os.stat(source, dir_fd=places["src_dir_fd"]))
        rename(source, target, **places)

    def of_interest(st: os.stat_result) -> tuple[int, ...]:
        return (st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_atime_ns, st.st_mtime_ns)

    lower = os.stat(layers.lowers[0] / "file")
    with layers.union(metacopy=metacopy) as tree:
        monkeypatch.setattr(os, "rename", note)
        change(tree)
        monkeypatch.undo()
        (staged,), now = named, os.stat(layers.upper / "file")
        assert of_interest(staged) == of_interest(now) != of_interest(lower)
        assert tree.lstat(b"file").mtime_ns == now.st_mtime_ns
        assert tree.read(b"file") == b"0123456789"


def test_a_change_that_is_refused_leaves_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = Layers(tmp_path, {"file": "0123456789"})

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EDQUOT, "no quota for that owner")

    with layers.union() as tree:
        monkeypatch.setattr(os, "chown", refuse)
        assert errno_of(lambda: tree.chown(b"file", 7, 8)) == errno.EDQUOT
        monkeypatch.undo()
        assert os.listdir(layers.upper) == []
        tree.chown(b"file", 7, 8)
    assert os.stat(layers.upper / "file").st_uid == 7


@pytest.mark.parametrize(("mode", "kept"), [(None, 0o640), (0o600, 0o600)])
def test_a_mode_that_comes_with_a_chown_of_an_outsider_is_set(
    tmp_path: Path, mode: int | None, kept: int
) -> None:
    """As nfsd does both in one, for a mount that it exports."""
    outsider = Credentials(pid=0, gid=9, uid=7)
    with Layers(tmp_path).union() as tree:
        tree.create(b"file", 0o644)
        tree.chown(b"file", 7, 8)
        tree.chmod(b"file", 0o2640)
        change = SetAttr(gid=9, mode=mode)
        attr = tree.fs.setattr(nodeid(tree, b"file"), change, None, outsider)
        assert (stat.S_IMODE(attr.st.st_mode), attr.st_gid) == (kept, 9)
