"""What a name is: however many layers, and while layers change beneath a mount."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.counting import count_calls
from tests.helpers.drivers import OsDriver
from tests.helpers.layers import Layers
from tests.helpers.trees import assert_same, merge_layers, snapshot
from tests.helpers.unions import core, errno_of, nodeid, state
from unionfs import MAX_LOWERS
from unionfs.core.whiteout import Marks, Scan, scan
from unionfs.types import ROOT_NODEID

LAYER_COUNTS = (1, 3, 40, MAX_LOWERS)


def names(tree: CoreDriver, path: bytes) -> set[bytes]:
    return {entry.name for entry in tree.listdir(path)}


# -- many layers --


def test_a_name_that_is_known_to_be_absent_takes_no_lock(tmp_path: Path) -> None:
    with Layers(tmp_path, {"d": {"low": "1", "gone": "2"}}).union() as tree:
        tree.create(b"d/up", 0o644)
        tree.unlink(b"d/gone")
        held = nodeid(tree, b"d")
        folder = state(tree).table.directory(held)
        with folder.lock:
            assert tree.fs.lookup(held, b"absent") is None
        for name, there in ((b"low", True), (b"up", True), (b"gone", False)):
            found = tree.fs.lookup(held, name)
            assert (found is not None) == there
            if found is not None:
                tree.fs.forget(found.nodeid, 1)
        assert errno_of(lambda: tree.fs.lookup(held, b"n" * 256)) == errno.ENAMETOOLONG


def test_a_known_upper_file_is_removed_without_looking_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Layers(tmp_path, {"lower": "x"}).union() as tree:
        tree.create(b"file", 0o644)
        calls = count_calls(monkeypatch, lambda: core(tree).unlink(ROOT_NODEID, b"file"))
        assert calls == {"open": 1}  # the fd that keeps it
        tree.create(b"file", 0o644)
        tree.rename(b"file", b"renamed", 0)
        assert errno_of(lambda: core(tree).unlink(ROOT_NODEID, b"file")) == errno.ENOENT
        tree.unlink(b"renamed")
        tree.unlink(b"lower")
        assert tree.listdir(b"") == []


@pytest.mark.parametrize("layer_count", LAYER_COUNTS)
def test_a_lookup_costs_the_same_with_any_number_of_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer_count: int
) -> None:
    layers = Layers(tmp_path, *({} for _ in range(layer_count)))
    for lower in layers.lowers:
        (lower / "d").mkdir()
    (layers.lowers[-1] / "d/bottom").touch()
    (layers.lowers[-1] / "d/other").touch()
    with layers.union() as tree:
        folder = nodeid(tree, b"d")
        tree.fs.lookup(folder, b"other")  # the directory is read now
        tree.lookups[nodeid(tree, b"d/other")] += 1
        absent = count_calls(monkeypatch, lambda: tree.fs.lookup(folder, b"absent"))
        assert not absent
        first = count_calls(monkeypatch, lambda: nodeid(tree, b"d/bottom"))
        again = count_calls(monkeypatch, lambda: nodeid(tree, b"d/bottom"))
        # One stat of the directory and one of the file.
        assert first == again == Counter(stat=2)


@pytest.mark.parametrize("layer_count", LAYER_COUNTS)
def test_every_layer_shows(tmp_path: Path, layer_count: int) -> None:
    layers = Layers(
        tmp_path, *({"d": {f"only{n}": str(n), "all": str(n)}} for n in range(layer_count))
    )
    with layers.union() as tree:
        assert len(names(tree, b"d")) == layer_count + 1
        assert tree.read(b"d/all") == b"0"
        bottom = b"d/only%d" % (layer_count - 1)
        tree.append(bottom, b"!")
        assert tree.read(bottom) == b"%d!" % (layer_count - 1)
        tree.rename(b"d", b"moved", 0)
    assert len(layers.look()) == layer_count + 3


def test_layers_equal_their_copies_over_each_other(tmp_path: Path) -> None:
    layers = Layers(
        tmp_path,
        {"file-over-dir": "top", "dir-over-file": {"in": "top"}, "d": {"gone": None, "new": "1"}},
        {"d": {"gone": "2", "deep": {"two": "2"}}, "gone-dir": None, "file-over-dir": {"x": "2"}},
        {
            "d": {"gone": "3", "kept": "3", "deep": {"three": "3"}},
            "gone-dir": {"f": "3"},
            "dir-over-file": "3",
        },
    )
    merge_layers([layers.upper, *layers.lowers], tmp_path / "wanted")
    assert_same(snapshot(OsDriver(tmp_path / "wanted"), d_ino=False), layers.look())


def test_names_longer_than_255_bytes_are_refused(tmp_path: Path) -> None:
    with Layers(tmp_path).union() as tree:
        assert errno_of(lambda: tree.fs.lookup(ROOT_NODEID, b"n" * 256)) == errno.ENAMETOOLONG


def test_a_file_lost_beneath_the_mount_is_an_error_of_that_name_only(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"lost": "x", "kept": "y"})
    with layers.union(lowers_change=True) as tree:
        tree.listdir(b"")
        (layers.lowers[0] / "lost").unlink()
        assert errno_of(lambda: tree.lstat(b"lost")) == errno.EIO
        assert tree.read(b"kept") == b"y"


@pytest.mark.parametrize("shared", [False, True])
def test_a_whiteout_put_beneath_the_mount_is_no_device(tmp_path: Path, shared: bool) -> None:
    """The lower may be the upper of another mount, which has removed the file."""
    layers = Layers(tmp_path, {"d": {"file": "x"}}, {"d": {"other": "y"}})
    for timeout, error in ((None, errno.EIO), (1000.0, errno.ENOENT)):
        with layers.union(lowers_change=True, timeout=timeout) as tree:
            assert names(tree, b"d") == {b"file", b"other"}
            path = layers.lowers[0] / "d/file"
            path.unlink()
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
            if shared:
                os.link(path, layers.base / "another")
            assert errno_of(lambda: tree.lstat(b"d/file")) == error
        path.unlink()
        path.write_text("x")
        (layers.base / "another").unlink(missing_ok=True)


# -- changes beneath a mount with timeout=0 --


@pytest.fixture(params=["lower", "upper"])
def beneath(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Layers, Path]:
    """Return layers, and the directory `d` of one of them, to be changed underneath."""
    layers = Layers(tmp_path, {"d": {"old": "old", "sub": {"in": "in"}}}, {"d": {"low": "low"}})
    if request.param == "lower":
        return layers, layers.lowers[0] / "d"
    (layers.upper / "d/sub").mkdir(parents=True)
    (layers.upper / "d/old").write_text("old")
    (layers.upper / "d/sub/in").write_text("in")
    return layers, layers.upper / "d"


Beneath = tuple[Layers, Path]


def test_new_files_are_seen(beneath: Beneath) -> None:
    layers, folder = beneath
    with layers.union(lowers_change=True, timeout=0) as tree:
        assert names(tree, b"d") == {b"old", b"sub", b"low"}
        with pytest.raises(FileNotFoundError):
            tree.lstat(b"d/new")
        (folder / "new").write_text("new")
        assert tree.read(b"d/new") == b"new"
        (folder / "second").mkdir()
        assert names(tree, b"d") == {b"old", b"sub", b"low", b"new", b"second"}
        (folder / "second/third").write_text("third")
        assert tree.read(b"d/second/third") == b"third"


def test_removed_files_are_gone(beneath: Beneath) -> None:
    layers, folder = beneath
    with layers.union(lowers_change=True, timeout=0) as tree:
        tree.read(b"d/old")
        (folder / "old").unlink()
        if folder.is_relative_to(layers.upper):
            assert tree.read(b"d/old") == b"old", "the lower's shows now"
            (layers.lowers[0] / "d/old").unlink()
        with pytest.raises(FileNotFoundError):
            tree.lstat(b"d/old")
        assert names(tree, b"d") == {b"sub", b"low"}


def test_replaced_files_are_the_new_ones(beneath: Beneath) -> None:
    layers, folder = beneath
    with layers.union(lowers_change=True, timeout=0) as tree:
        tree.read(b"d/old")
        (folder / "fresh").write_text("fresh one")
        (folder / "fresh").rename(folder / "old")
        assert tree.read(b"d/old") == b"fresh one"
        assert tree.lstat(b"d/old").size == 9


def test_changed_files_show_their_new_content(beneath: Beneath) -> None:
    layers, folder = beneath
    with layers.union(lowers_change=True, timeout=0) as tree:
        tree.read(b"d/old")
        (folder / "old").write_text("changed")
        (folder / "old").chmod(0o600)
        assert tree.read(b"d/old") == b"changed"
        assert tree.lstat(b"d/old").mode & 0o777 == 0o600


def test_a_file_put_into_a_higher_layer_shows(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {}, {"file": "low", "d": {"file": "low"}})
    with layers.union(lowers_change=True, timeout=0) as tree:
        assert tree.read(b"file") == tree.read(b"d/file") == b"low"
        (layers.lowers[0] / "file").write_text("middle")
        assert tree.read(b"file") == b"middle"
        (layers.upper / "file").write_text("upper")
        assert tree.read(b"file") == b"upper"


def test_a_directory_made_anew_is_the_new_one(beneath: Beneath) -> None:
    layers, folder = beneath
    with layers.union(lowers_change=True, timeout=0) as tree:
        assert tree.read(b"d/sub/in") == b"in"
        (folder / "sub/in").unlink()
        (folder / "sub").rmdir()
        (folder / "sub").mkdir()
        (folder / "sub/other").write_text("other")
        assert b"other" in names(tree, b"d/sub")
        assert tree.read(b"d/sub/other") == b"other"


def test_a_directory_that_was_removed_is_stale(
    beneath: Beneath, caplog: pytest.LogCaptureFixture
) -> None:
    layers, folder = beneath
    with layers.union(lowers_change=True, timeout=0) as tree:
        fs = core(tree)
        parent = fs.lookup(ROOT_NODEID, b"d")
        assert parent is not None
        known = fs.lookup(parent.nodeid, b"sub")
        assert known is not None
        state(tree).fds.close_unpinned()  # it is to be opened again
        shutil.rmtree(folder / "sub")
        assert errno_of(lambda: list(fs.listdir(known.nodeid, 0))) == errno.ESTALE
        fs.forget(known.nodeid, 1)
        fs.forget(parent.nodeid, 1)
    assert "ERROR" not in caplog.text


def test_a_file_in_the_place_of_a_directory_shows(beneath: Beneath) -> None:
    layers, folder = beneath
    with layers.union(lowers_change=True, timeout=0) as tree:
        assert tree.read(b"d/sub/in") == b"in"
        (folder / "sub/in").unlink()
        (folder / "sub").rmdir()
        (folder / "sub").write_text("a file now")
        assert tree.read(b"d/sub") == b"a file now"


@pytest.mark.parametrize("timeout", [0, 3600])
def test_directories_that_do_not_change_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeout: int
) -> None:
    layers = Layers(tmp_path, *({"d": {f"f{n}": ""}} for n in range(5)))
    (layers.upper / "d").mkdir()
    listed: list[bytes] = []

    def noted(marks: Marks, fd: int, *, xwhiteouts: bool, **packing: int) -> Scan:
        listed.append(os.readlink(b"/proc/self/fd/%d" % fd))
        return scan(marks, fd, xwhiteouts=xwhiteouts, **packing)

    monkeypatch.setattr("unionfs.core.lookup.scan", noted)
    monkeypatch.setattr("unionfs.core.merge.scan", noted)
    with layers.union(timeout=timeout) as tree:
        for number in range(5):
            assert tree.read(b"d/f%d" % number) == b""
        assert len(listed) == len({*listed}) == 12  # the roots too


def test_a_lower_directory_that_comes_later_is_merged(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"top": "1"}}, {})
    with layers.union(lowers_change=True, timeout=0) as tree:
        assert names(tree, b"d") == {b"top"}
        (layers.lowers[1] / "d").mkdir()
        (layers.lowers[1] / "d/bottom").write_text("2")
        tree.forget_all()
        assert names(tree, b"d") == {b"top", b"bottom"}


def test_changes_through_the_union_and_beneath_it_meet(beneath: Beneath) -> None:
    layers, folder = beneath
    with layers.union(lowers_change=True, timeout=0) as tree:
        tree.create(b"d/ours", 0o600)
        tree.unlink(b"d/low")
        (folder / "theirs").write_text("theirs")
        assert names(tree, b"d") == {b"old", b"sub", b"ours", b"theirs"}
        tree.rename(b"d/theirs", b"d/taken", 0)
        assert names(tree, b"d") == {b"old", b"sub", b"ours", b"taken"}
    assert b"d/taken" in layers.look()


# -- lowers that change under a mount that was told that they do not --


def _replace_dir_by_file(lower: Path) -> None:
    shutil.rmtree(lower / "d")
    (lower / "d").write_text("now a file")


def _replace_file_by_dir(lower: Path) -> None:
    (lower / "d/file").unlink()
    (lower / "d/file").mkdir()


def _remove(lower: Path) -> None:
    shutil.rmtree(lower / "d")


@pytest.mark.parametrize("change", [_replace_dir_by_file, _replace_file_by_dir, _remove])
def test_lowers_that_change_unannounced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[Path], None]
) -> None:
    layers = Layers(tmp_path, {"d": {"file": "x", "sub": {"in": "y"}}}, {"d": {"beneath": "z"}})
    with layers.union(lowers_change=True, strict=False) as tree:
        tree.listdir(b"d")
        tree.lstat(b"d/file")
        tree.listdir(b"d/sub")
        change(layers.lowers[0])
        # So many other directories were open since that these are no longer.
        state(tree).fds.close()
        for action in (
            partial(tree.read, b"d/file"),
            partial(tree.lstat, b"d/file"),
            partial(tree.append, b"d/file", b"!"),
            partial(tree.rename, b"d/file", b"d/moved", 0),
        ):
            assert errno_of(action) in (errno.ESTALE, errno.EIO, errno.EISDIR)
        if change is not _replace_file_by_dir:
            assert errno_of(partial(tree.create, b"d/sub/new", 0o644)) in (errno.ESTALE, errno.EIO)
    assert caplog.records
    assert not any(record.exc_info for record in caplog.records), "a bug, by its traceback"


def test_an_upper_made_opaque_from_outside(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"file": "x"}}, {"d": {"beneath": "z"}})
    with layers.union(lowers_change=True, strict=False) as tree:
        tree.create(b"d/new", 0o644)
        tree.listdir(b"d")
        (layers.upper / "d/.wh..wh..opq").touch()
        assert errno_of(lambda: tree.mknod(b"d/c", stat.S_IFCHR | 0o600, 0)) == errno.EPERM
        core(tree).reread(None)
        assert {entry.name for entry in tree.listdir(b"d")} == {b"new"}


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_an_index_entry_of_another_type(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    layers = Layers(tmp_path, {"a": "data"})
    (layers.lowers[0] / "b").hardlink_to(layers.lowers[0] / "a")
    with layers.union() as tree:
        tree.append(b"a", b"!")
    (entry,) = (layers.work / "index").iterdir()
    entry.unlink()
    if kind == "symlink":
        entry.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(entry)
    else:
        entry.mkdir()
    with layers.union(strict=False) as tree:
        assert errno_of(lambda: tree.read(b"b")) == errno.EIO
        core(tree).restore(b"a")
        if kind != "directory":
            assert tree.read(b"a") == b"data"  # a directory is left for the user to look into
    assert "has another type than" in caplog.text
