"""Copies that changed nothing: which they are, and that nothing else goes with them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from layerstore.diff.union import UnionFiles
from layerstore.layer.pack import Packing, pack
from layerstore.layer.unchanged import drop_unchanged, find_unchanged
from tests.helpers.core_driver import CoreDriver
from tests.helpers.trees import Tree, assert_same, snapshot
from tests.helpers.unions import Content, fill

pytestmark = pytest.mark.usefixtures("as_root")

LOWER: Content = {
    "same": "1",
    "d": {"same": "2", "other": "3", "e": {"same": "4"}},
    "gone": {"same": "5", "deleted": "6"},
    "opaque": {"same": "7", "hidden": "8"},
}


@pytest.fixture
def below_and_diff(tmp_path: Path) -> tuple[Path, Path]:
    """A lower, and a layer over it that has copies of all that it shows."""
    below, diff = tmp_path / "below", tmp_path / "diff"
    for layer in (below, diff):
        layer.mkdir()
        fill(layer, LOWER)
    (diff / "gone/deleted").unlink()
    os.mknod(diff / "gone/deleted", 0o20000, 0)
    (diff / "opaque/hidden").unlink()
    os.setxattr(diff / "opaque", "trusted.overlay.opaque", b"y")
    for layer in (below, diff):
        for path in (layer, *layer.rglob("*")):
            os.utime(path, ns=(0, 10**18), follow_symlinks=False)
    return below, diff


def test_copies_and_the_directories_that_hold_nothing_else(
    below_and_diff: tuple[Path, Path],
) -> None:
    below, diff = below_and_diff
    (diff / "d/other").write_text("?")
    os.utime(diff / "d", ns=(0, 10**18))
    assert find_unchanged(diff, [below]) == {
        b"same",
        b"d/same",
        b"d/e",
        b"d/e/same",
        b"gone/same",
    }
    assert find_unchanged(diff, []) == set()


def test_what_is_left_is_the_same_archive_as_if_they_were_left_out(
    below_and_diff: tuple[Path, Path],
) -> None:
    """So too the times of directories that lost something."""
    below, diff = below_and_diff
    (diff / "d/other").write_text("?")
    os.utime(diff / "d", ns=(0, 10**18))
    left_out, dropped = io.BytesIO(), io.BytesIO()
    skip = find_unchanged(diff, [below])
    pack(diff, [below], left_out, privileged=True, how=Packing(skip=skip))
    assert drop_unchanged(diff, [below]) == 4
    pack(diff, [below], dropped, privileged=True)
    assert dropped.getvalue() == left_out.getvalue()
    found = {str(path.relative_to(diff)) for path in diff.rglob("*")}
    assert found == {"d", "d/other", "gone", "gone/deleted", "opaque", "opaque/same"}


def test_what_hides_the_directory_beneath_keeps_what_it_holds(tmp_path: Path) -> None:
    below, diff = tmp_path / "below", tmp_path / "diff"
    for layer in (below, diff):
        layer.mkdir()
        fill(layer, {"opaque": {"d": {"same": "1"}}, "moved": {"same": "2"}})
        for path in (layer, *layer.rglob("*")):
            os.utime(path, ns=(0, 10**18))
    os.setxattr(diff / "opaque", "trusted.overlay.opaque", b"y")
    os.setxattr(diff / "moved", "trusted.overlay.redirect", b"/opaque")
    before = merged(below, diff)
    drop_unchanged(diff, [below])
    assert_same(before, merged(below, diff))


def merged(below: Path, diff: Path) -> Tree:
    with UnionFiles([diff, below]) as union:
        return snapshot(CoreDriver(union.fs))


def test_hard_links_stay(tmp_path: Path) -> None:
    """Of the names that were one file each is one of its own now, or the reverse."""
    below, diff = tmp_path / "below", tmp_path / "diff"
    for layer, one, other in ((below, "a", "b"), (diff, "c", "d")):
        layer.mkdir()
        fill(layer, {"a": "1", "b": "1", "c": "2", "d": "2"})
        (layer / other).unlink()
        os.link(layer / one, layer / other)
        for path in (layer, *layer.iterdir()):
            os.utime(path, ns=(0, 10**18))
    assert find_unchanged(diff, [below]) == set()


def test_what_differs_in_content_or_time_stays(tmp_path: Path) -> None:
    below, diff = tmp_path / "below", tmp_path / "diff"
    for layer in (below, diff):
        layer.mkdir()
        for name in ("content", "time", "same"):
            (layer / name).write_bytes(b"1234")
            os.utime(layer / name, ns=(0, 10**18))
    (diff / "content").write_bytes(b"4321")
    os.utime(diff / "content", ns=(0, 10**18))
    os.utime(diff / "time", ns=(0, 10**18 + 1))
    assert drop_unchanged(diff, [below]) == 1
    assert sorted(os.listdir(diff)) == ["content", "time"]
