"""Nothing grows: not the table of inodes, not the memory, not the open files."""

from __future__ import annotations

import gc
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.unions import core, open_fds
from unionfs import MAX_LOWERS
from unionfs.core.opening import open_union
from unionfs.core.union import UnionFs
from unionfs.types import ROOT_NODEID, NodeId

ROUNDS = 150
GROWTH = 40_000
"""Bytes that counters, caches of the interpreter and of the allocator may take."""


def grown_by(action: Callable[[], None]) -> tuple[int, int]:
    """Run `action` until it is warm, then often; return how many bytes and fds that cost."""
    for _ in range(20):
        action()
    gc.collect()
    fds = open_fds()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(ROUNDS):
            action()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return after - before, open_fds() - fds


def make_and_remove_file(tree: CoreDriver) -> None:
    tree.create(b"merged/new", 0o644)
    tree.write(b"merged/new", 0, b"x")
    tree.unlink(b"merged/new")


def make_and_remove_directory(tree: CoreDriver) -> None:
    tree.mkdir(b"merged/new", 0o755)
    tree.create(b"merged/new/file", 0o644)
    tree.unlink(b"merged/new/file")
    tree.rmdir(b"merged/new")


def rename_to_and_fro(tree: CoreDriver) -> None:
    tree.rename(b"merged", b"moved", 0)
    tree.rename(b"moved/file", b"file", 0)
    tree.rename(b"file", b"moved/file", 0)
    tree.rename(b"moved", b"merged", 0)


def list_only(tree: CoreDriver) -> None:
    """List directories whose names nobody ever looks up."""
    tree.listdir(b"merged")
    tree.listdir(b"plain")


def look_around(tree: CoreDriver) -> None:
    for path in (b"merged/file", b"merged/other", b"plain/file", b"merged/link2"):
        tree.read(path)
    for path in (b"merged/absent", b"absent"):
        with pytest.raises(FileNotFoundError):
            tree.lstat(path)


def link_and_unlink(tree: CoreDriver) -> None:
    tree.link(b"merged/link1", b"merged/link3")
    tree.unlink(b"merged/link3")


def replace_lower(tree: CoreDriver) -> None:
    tree.unlink(b"merged/other")
    tree.create(b"merged/other", 0o600)


@pytest.mark.parametrize(
    "action",
    [
        make_and_remove_file,
        make_and_remove_directory,
        rename_to_and_fro,
        list_only,
        look_around,
        link_and_unlink,
        replace_lower,
    ],
)
def test_nothing_grows(tmp_path: Path, action: Callable[[CoreDriver], None]) -> None:
    layers = Layers(
        tmp_path,
        {"merged": {"file": "0", "other": "0", "link1": "x"}, "plain": {"file": "0"}},
        {"merged": {"low": "1", "other": "1"}},
    )
    os.link(layers.lowers[0] / "merged/link1", layers.lowers[0] / "merged/link2")
    with layers.union() as tree:
        tree.chmod(b"merged/link1", 0o600)

        def one_round() -> None:
            action(tree)
            tree.forget_all()
            assert tree.fs.counters()["inodes"] == 1

        memory, fds = grown_by(one_round)
        if memory >= GROWTH:
            # The interpreter enlarges tables of its own, as that of interned strings, once.
            memory, fds = grown_by(one_round)
        assert memory < GROWTH
        assert fds <= 2


def test_a_removed_directory_is_not_kept_open(tmp_path: Path) -> None:
    with Layers(tmp_path).union() as tree:
        fds = open_fds()
        for number in range(50):
            name = b"d%d" % number
            tree.mkdir(name, 0o755)
            tree.create(name + b"/file", 0o644)
            tree.unlink(name + b"/file")
            tree.rmdir(name)
        tree.forget_all()
        assert open_fds() == fds


def test_a_forgotten_file_frees_its_directories(tmp_path: Path) -> None:
    """The kernel may forget a directory before what is in it."""
    with Layers(tmp_path, {"a": {"b": {"c": "x"}}}).union() as tree:
        fs = tree.fs
        ids = [ROOT_NODEID]
        for name in (b"a", b"b", b"c"):
            attr = fs.lookup(ids[-1], name)
            assert attr is not None
            ids.append(attr.nodeid)
        fs.forget(ids[1], 1)
        fs.forget(ids[2], 1)
        assert fs.counters()["inodes"] == 4, "they lead to a file that is still known"
        fs.forget(ids[3], 1)
        assert fs.counters()["inodes"] == 1


@pytest.fixture
def quick_dir(tmp_path: Path) -> Iterator[Path]:
    """Yield a directory in memory where there is one: a disk is slow to make many files."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="pyunion-test-", dir=memory) as folder:
        yield Path(folder)


def test_a_hundred_thousand_files_are_forgotten(quick_dir: Path) -> None:
    """Memory is printed, not judged; that all of it can be given back is."""
    layers = Layers(quick_dir)
    folders = files = 316
    for folder in range(folders):
        path = layers.lowers[0] / f"d{folder}"
        path.mkdir()
        for file in range(files):
            os.mknod(path / str(file))
    fs = core(CoreDriver(open_union(layers.config(upper=None, work=None))))
    try:
        before = resident()
        kept: list[NodeId] = []
        for folder in range(folders):
            parent = look_up(fs, ROOT_NODEID, b"d%d" % folder)
            kept += [parent, *(look_up(fs, parent, b"%d" % file) for file in range(files))]
        size = resident() - before
        assert fs.counters()["inodes"] == folders * (files + 1) + 1 > 100_000
        print(f"{size / len(kept):.0f} bytes an inode")
        for nodeid in kept:
            fs.forget(nodeid, 1)
        assert fs.counters()["inodes"] == 1
    finally:
        fs.close()


def resident() -> int:
    """Return how many bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def look_up(fs: UnionFs, parent: NodeId, name: bytes) -> NodeId:
    attr = fs.lookup(parent, name)
    assert attr is not None
    return attr.nodeid


def test_most_layers_open_and_close(tmp_path: Path) -> None:
    layers = Layers(tmp_path, *({f"only{n}": "x", "all": str(n)} for n in range(MAX_LOWERS)))
    with layers.union(**layers.read_only()) as tree:
        assert tree.read(b"all") == b"0"
        assert len(tree.listdir(b"")) == MAX_LOWERS + 1
