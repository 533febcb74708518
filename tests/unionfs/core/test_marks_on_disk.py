"""What is synced before a name, and where nothing is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.mounts import require_root
from tests.helpers.unions import errno_of, state
from unionfs.core.config import OverrideStat, WhiteoutForm
from unionfs.core.marks_on_disk import waits_for_marks


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    require_root()
    return Layers(tmp_path, {"d": {"x": "1", "y": "2"}, "gone": {}, "empty": "", "e": {}})


def _made_again(tree: CoreDriver) -> None:
    tree.rmdir(b"gone")
    tree.mkdir(b"gone", 0o755)


def _two_unlinked(tree: CoreDriver) -> None:
    tree.unlink(b"d/x")
    tree.unlink(b"d/y")


CHANGES: dict[str, Callable[[CoreDriver], object]] = {
    "mkdir over a whiteout": _made_again,
    "rename": lambda tree: tree.rename(b"d", b"there", 0),
    "two unlinked": _two_unlinked,
    "chmod of a directory": lambda tree: tree.chmod(b"d", 0o700),
    "chmod of an empty file": lambda tree: tree.chmod(b"empty", 0o600),
}


@pytest.mark.parametrize(
    ("change", "settings", "syncs"),
    [
        ("mkdir over a whiteout", {}, 1),
        ("rename", {}, 1),
        ("two unlinked", {"whiteout": WhiteoutForm.CHAR}, 0),
        ("two unlinked", {"whiteout": WhiteoutForm.XATTR}, 3),  # and their directory, once
        ("chmod of a directory", {}, 0),
        ("chmod of an empty file", {}, 0),
        ("chmod of a directory", {"override": OverrideStat.CONTAINERS}, 1),
        ("chmod of an empty file", {"override": OverrideStat.CONTAINERS}, 1),
    ],
)
@pytest.mark.parametrize("kept", ["no order", "journal", "volatile"])
def test_marks_are_synced_where_nothing_keeps_their_order(
    layers: Layers,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    settings: dict[str, Any],
    syncs: int,
    kept: str,
) -> None:
    synced: list[int] = []
    with layers.union(volatile=kept == "volatile", **settings) as tree:
        upper = state(tree).require_upper().upper
        upper.journalled = upper.ordered = kept == "journal"
        assert waits_for_marks(state(tree)) == (kept == "no order")
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(int(fd)))
        CHANGES[change](tree)
        monkeypatch.undo()
    assert len(synced) == (syncs if kept == "no order" else 0)


@pytest.mark.parametrize(("failed", "given"), [(errno.EINVAL, 0), (errno.EIO, errno.EIO)])
def test_an_error_of_the_disk_is_one_and_a_filesystem_without_fsync_is_none(
    layers: Layers, monkeypatch: pytest.MonkeyPatch, failed: int, given: int
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(failed, os.strerror(failed))

    with layers.union() as tree:
        upper = state(tree).require_upper().upper
        upper.journalled = upper.ordered = False
        tree.rmdir(b"gone")
        monkeypatch.setattr(os, "fsync", fail)
        if given:
            assert errno_of(lambda: tree.mkdir(b"gone", 0o755)) == given
            assert b"gone" not in {entry.name for entry in tree.listdir(b"")}
        else:
            tree.mkdir(b"gone", 0o755)
        monkeypatch.undo()
    assert (b"gone" in layers.look()) == (not given)
