"""copy_up: of metadata alone with metacopy=on, of data in time, and while names change."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.trees import assert_same, snapshot
from tests.helpers.unions import core, nodeid
from unionfs.core import copy_up, staging
from unionfs.types import ROOT_NODEID, SetAttr

DATA = b"some data " * 1000
METACOPY = "trusted.overlay.metacopy"

Change = Callable[[CoreDriver], object]


def has_data(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.lseek(fd, 0, os.SEEK_DATA) >= 0
    except OSError:
        return False
    finally:
        os.close(fd)


def metadata_only(layers: Layers, name: str = "file") -> bool:
    """Tell whether the upper's `name` is a metacopy that holds no data."""
    path = layers.upper / name
    marked = METACOPY in os.listxattr(path)
    if marked:
        assert not has_data(path)
        assert path.stat().st_size == len(DATA)
    return marked


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.chmod(b"file", 0o600),
        lambda tree: tree.chown(b"file", 5, 6),
        lambda tree: tree.utimens(b"file", 1, 2),
        lambda tree: tree.setxattr(b"file", "user.x", b"1", 0),
        lambda tree: tree.link(b"file", b"second"),
        lambda tree: tree.rename(b"file", b"moved", 0) or tree.rename(b"moved", b"file", 0),
    ],
    ids=["chmod", "chown", "utimens", "setxattr", "link", "rename"],
)
def test_metacopy_copies_no_data_until_it_is_written(tmp_path: Path, change: Change) -> None:
    layers = Layers(tmp_path, {"file": DATA})
    with layers.union(metacopy=True) as tree:
        change(tree)
        assert metadata_only(layers)
        assert tree.read(b"file") == DATA
        wanted = snapshot(tree)
    assert_same(wanted, layers.look(metacopy=True))
    assert_same(wanted, layers.look())  # the option is for writing them only
    with layers.union(metacopy=True) as tree:
        before = tree.lstat(b"file")
        tree.write(b"file", 0, b"SOME")
        assert not metadata_only(layers)
        assert tree.read(b"file") == b"SOME" + DATA[4:]
        assert tree.lstat(b"file")[:7] == before[:7]
    assert layers.look(metacopy=True)[b"file"].content == b"SOME" + DATA[4:]


def test_without_the_option_all_is_copied(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": DATA})
    with layers.union() as tree:
        tree.chmod(b"file", 0o600)
    assert not metadata_only(layers)
    assert (layers.upper / "file").read_bytes() == DATA


def test_a_metacopy_keeps_its_data_wherever_it_goes(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"a": {"file": DATA}, "b": {"file": "another"}})
    with layers.union(metacopy=True) as tree:
        tree.chmod(b"a/file", 0o600)
        tree.rename(b"a/file", b"b/file", 0)
        tree.rename(b"b", b"c", 0)
        tree.link(b"c/file", b"a/link")
        tree.unlink(b"c/file")
        assert tree.read(b"a/link") == DATA
        wanted = snapshot(tree)
    assert_same(wanted, layers.look(metacopy=True))


def test_a_metacopy_is_moved_along_with_its_directory(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"a": {"b": {"file": DATA}}})
    with layers.union(metacopy=True) as tree:
        tree.chmod(b"a/b/file", 0o600)
        tree.rename(b"a/b", b"b", 0)
    assert layers.look(metacopy=True)[b"b/file"].content == DATA
    with layers.union(metacopy=True) as tree:
        tree.rename(b"b/file", b"file", 0)
    assert layers.look(metacopy=True)[b"file"].content == DATA


@pytest.mark.parametrize("size", [0, 7, len(DATA), len(DATA) + 3])
def test_truncating_a_metacopy(tmp_path: Path, size: int) -> None:
    layers = Layers(tmp_path, {"file": DATA})
    wanted = DATA[:size].ljust(size, b"\0")
    with layers.union(metacopy=True) as tree:
        tree.chmod(b"file", 0o600)
        tree.truncate(b"file", size)
        assert tree.read(b"file") == wanted
        assert tree.lstat(b"file").size == size
    assert layers.look(metacopy=True)[b"file"].content == wanted


def test_readers_of_a_lower_file_follow_it_up(tmp_path: Path) -> None:
    with Layers(tmp_path, {"file": DATA}).union(metacopy=True) as tree:
        reader = tree.open(b"file", os.O_RDONLY, 0)
        tree.chmod(b"file", 0o600)
        assert tree.pread(reader, 4, 0) == b"some"
        tree.write(b"file", 0, b"SOME")
        assert tree.pread(reader, 4, 0) == b"SOME"
        assert tree.fstat(reader).mode & 0o777 == 0o600


def test_a_lower_metacopy_is_copied_up_with_its_data(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {}, {"file": DATA})
    with layers.union(metacopy=True) as tree:
        tree.rename(b"file", b"moved", 0)
    layers.upper.rename(tmp_path / "committed")
    layers.upper.mkdir()
    layers.lowers.insert(0, tmp_path / "committed")
    with layers.union() as tree:
        assert tree.read(b"moved") == DATA
        tree.chmod(b"moved", 0o600)
        assert (layers.upper / "moved").read_bytes() == DATA


def test_a_lost_metacopy_is_an_error_of_that_file_only(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": DATA, "other": "x"})
    with layers.union(metacopy=True) as tree:
        tree.chmod(b"file", 0o600)
    (layers.lowers[0] / "file").unlink()
    with layers.union() as tree:
        with pytest.raises(OSError, match="Input/output"):
            tree.lstat(b"file")
        assert tree.read(b"other") == b"x"
        assert {entry.name for entry in tree.listdir(b"")} == {b"file", b"other"}


def test_the_parents_keep_their_times(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"a": {"b": {"file": "x"}}})
    with layers.union() as tree:
        before = {path: tree.lstat(path) for path in (b"", b"a", b"a/b")}
        tree.chmod(b"a/b/file", 0o600)
        assert {path: tree.lstat(path) for path in before} == {
            path: st._replace(nlink=tree.lstat(path).nlink) for path, st in before.items()
        }


@pytest.fixture
def while_copying(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Return a function to do something in the middle of the next copy of data."""
    original = staging.copy_data
    planned: list[Callable[[], object]] = []

    def copy_data(*args: object, **keywords: object) -> None:
        while planned:
            planned.pop()()
        original(*args, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(staging, "copy_data", copy_data)
    return planned.append


WhileCopying = Callable[[Callable[[], object]], None]


def test_a_file_may_lose_its_name_while_it_is_copied(
    tmp_path: Path, while_copying: WhileCopying
) -> None:
    with Layers(tmp_path, {"file": "data"}).union() as tree:
        held = nodeid(tree, b"file")
        while_copying(lambda: tree.unlink(b"file"))
        fh = tree.fs.open(held, os.O_RDWR)
        tree.fs.write(fh, 0, b"D")
        assert tree.fs.read(fh, 0, 9) == b"Data"
        assert tree.fs.getattr(held).st_nlink == 0
        assert tree.listdir(b"") == []
        tree.fs.release(fh)


def test_its_directory_may_go_too_while_it_is_copied(
    tmp_path: Path, while_copying: WhileCopying
) -> None:
    with Layers(tmp_path, {"d": {"file": "data"}}).union() as tree:
        held = nodeid(tree, b"d/file")

        def remove() -> None:
            tree.unlink(b"d/file")
            tree.rmdir(b"d")

        while_copying(remove)
        tree.fs.setattr(held, SetAttr(size=2), None)
        assert tree.fs.getattr(held).st.st_size == 2


def test_its_directory_may_move_while_it_is_copied(
    tmp_path: Path, while_copying: WhileCopying
) -> None:
    layers = Layers(tmp_path, {"d": {"file": "data"}})
    with layers.union() as tree:
        while_copying(lambda: tree.rename(b"d", b"e", 0))
        held = nodeid(tree, b"d/file")
        tree.fs.setattr(held, SetAttr(size=2), None)
        assert tree.read(b"e/file") == b"da"
    assert layers.look()[b"e/file"].content == b"da"


def test_another_link_may_go_while_one_is_copied(
    tmp_path: Path, while_copying: WhileCopying
) -> None:
    layers = Layers(tmp_path, {"a": "data", "d": {}})
    (layers.lowers[0] / "d/b").hardlink_to(layers.lowers[0] / "a")
    with layers.union() as tree:
        held = nodeid(tree, b"a")
        nodeid(tree, b"d/b")
        while_copying(lambda: tree.unlink(b"d/b"))
        tree.fs.setattr(held, SetAttr(size=2), None)
        assert tree.lstat(b"a").nlink == 1
    assert layers.look()[b"a"].nlink == 1


def test_the_link_that_is_copied_may_go_meanwhile(
    tmp_path: Path, while_copying: WhileCopying
) -> None:
    layers = Layers(tmp_path, {"a": "data", "d": {}})
    (layers.lowers[0] / "d/b").hardlink_to(layers.lowers[0] / "a")
    with layers.union() as tree:
        held = nodeid(tree, b"a")
        while_copying(lambda: tree.unlink(b"a"))
        tree.fs.setattr(held, SetAttr(size=2), None)
        assert tree.fs.getattr(held).st.st_size == 2
        assert tree.read(b"d/b") == b"da"
        assert tree.lstat(b"d/b").nlink == 1
    assert layers.look()[b"d/b"].nlink == 1


def test_links_lost_before_the_copy_are_not_counted(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"a": "data"})
    for name in ("b", "c"):
        (layers.lowers[0] / name).hardlink_to(layers.lowers[0] / "a")
    with layers.union() as tree:
        tree.unlink(b"a")
        assert tree.lstat(b"b").nlink == 2
        tree.chmod(b"b", 0o600)
        assert tree.lstat(b"b").nlink == tree.lstat(b"c").nlink == 2
    assert layers.look()[b"c"].nlink == 2


def test_a_file_held_open_writes_to_the_links_it_has_left(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"a": "data", "d": {}})
    (layers.lowers[0] / "d/b").hardlink_to(layers.lowers[0] / "a")
    with layers.union() as tree:
        held = nodeid(tree, b"a")
        tree.unlink(b"a")
        fh = tree.fs.open(held, os.O_RDWR)
        tree.fs.write(fh, 0, b"D")
        assert tree.read(b"d/b") == b"Data"
        assert nodeid(tree, b"d/b") == held
        assert tree.lstat(b"d/b").nlink == 1
        tree.unlink(b"d/b")
        assert tree.fs.read(fh, 0, 9) == b"Data"
        tree.fs.release(fh)
        assert os.listdir(layers.work / "index") == []
    assert set(layers.look()) == {b"", b"d"}


def test_special_files_and_links_are_copied_as_what_they_are(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    lower = layers.lowers[0]
    os.mkfifo(lower / "fifo")
    os.mknod(lower / "device", stat.S_IFBLK | 0o640, os.makedev(7, 3))
    (lower / "link").symlink_to("anywhere")
    with layers.union() as tree:
        for name in (b"fifo", b"device", b"link"):
            tree.chown(name, 3, 4)
        assert tree.readlink(b"link") == b"anywhere"
        wanted = snapshot(tree)
    assert wanted[b"device"].rdev == os.makedev(7, 3)
    assert {wanted[name].uid for name in (b"fifo", b"device", b"link")} == {3}
    assert_same(wanted, layers.look())


def test_copies_are_counted(tmp_path: Path) -> None:
    with Layers(tmp_path, {"d": {"file": "x"}}).union() as tree:
        tree.chmod(b"d/file", 0o600)
        assert core(tree).counters()["copy_ups"] == 2
        tree.fs.access(ROOT_NODEID, os.W_OK, 0, 0)


def test_a_small_copy_is_slow_only_where_the_disk_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as slow until it was quick a few times, and again after it was not."""
    now, takes = 0, 100_000

    def flush(_fd: int) -> None:
        nonlocal now
        now += takes

    monkeypatch.setattr(staging, "write_back", flush)
    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(copy_up, "time", SimpleNamespace(monotonic_ns=lambda: now))
    names = [b"%d" % number for number in range(8)]
    layers = Layers(tmp_path, {name.decode(): "x" for name in names} | {"big": "x" * 100_000})
    with layers.union() as tree:

        def is_slow(name: bytes) -> bool:
            return core(tree).slow_open(nodeid(tree, name), os.O_RDWR)

        assert is_slow(names[0])
        for name in names[:6]:
            tree.chmod(name, 0o600)
        assert not is_slow(names[6])
        assert is_slow(b"big")
        takes = 5_000_000
        tree.chmod(names[6], 0o600)
        assert is_slow(names[7])
