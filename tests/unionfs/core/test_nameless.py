"""What lost its last name before the kernel forgot it: kept by few fds, or by none."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.descriptors import few_descriptors
from tests.helpers.layers import Layers
from tests.helpers.unions import errno_of, nodeid, open_fds, state
from unionfs.core.inode import File
from unionfs.types import ROOT_NODEID, SetAttr

MANY = 1000
FEW = 200  # descriptors: enough to open a union, too few for one an inode


@contextmanager
def small_union(base: Path) -> Iterator[CoreDriver]:
    """Open a union while this process may open `FEW` files."""
    with few_descriptors(FEW), Layers(base, {"dir": {}}).union() as tree:
        yield tree


def names() -> list[bytes]:
    return [b"%d" % number for number in range(MANY)]


def test_unlinked_files_that_nobody_has_open_need_no_descriptor_each(tmp_path: Path) -> None:
    with small_union(tmp_path) as tree:
        for name in names():
            tree.create(name, 0o600)
        ids = [nodeid(tree, name) for name in names()]
        before = open_fds()
        for name in names():
            tree.fs.unlink(ROOT_NODEID, name)
        assert open_fds() - before <= state(tree).table.max_unopened
        assert {tree.fs.getattr(each).st_nlink for each in ids} == {0}


def test_removed_directories_need_no_descriptor_each(tmp_path: Path) -> None:
    with small_union(tmp_path) as tree:
        for name in names():
            tree.mkdir(name, 0o700)
        ids = [nodeid(tree, name) for name in names()]
        before = open_fds()
        for name in names():
            tree.fs.rmdir(ROOT_NODEID, name)
        assert open_fds() - before <= state(tree).table.max_unopened
        assert {tree.fs.getattr(each).st_nlink for each in ids} == {0}
        # The name is another directory's now, and not to be found by it.
        tree.mkdir(b"0", 0o711)
        assert tree.fs.getattr(ids[0]).st.st_mode & 0o777 == 0o700
        assert errno_of(lambda: tree.fs.mkdir(ids[0], b"x", 0o700, 0, 0, 0)) == errno.ENOENT
        assert errno_of(lambda: tree.fs.setattr(ids[0], SetAttr(mode=0), None))


def test_removed_directories_may_have_no_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS; to close the fd of one is no part of the request that removed another."""
    stat = os.stat

    def fail_if_removed(path: int | bytes, **options: Any) -> os.stat_result:
        found = stat(path, **options)
        if isinstance(path, int) and not found.st_nlink:
            raise OSError(errno.ESTALE, "Stale file handle")
        return found

    with small_union(tmp_path) as tree:
        tree.mkdir(b"kept", 0o700)
        tree.create(b"file", 0o600)
        file, ids = nodeid(tree, b"file"), []
        for name in names():
            tree.mkdir(name, 0o700)
            ids.append(nodeid(tree, name))
        with monkeypatch.context() as patched:
            patched.setattr(os, "stat", fail_if_removed)
            tree.fs.unlink(ROOT_NODEID, b"file")
            for name in names():
                tree.fs.rmdir(ROOT_NODEID, name)
            for each in (file, *ids):
                assert errno_of(partial(tree.fs.getattr, each)) == errno.ESTALE
        assert {entry.name for entry in tree.listdir(b"")} == {b"dir", b"kept"}


def test_files_renamed_over_need_no_descriptor_each(tmp_path: Path) -> None:
    with small_union(tmp_path) as tree:
        tree.create(b"target", 0o600)
        before = open_fds()
        for name in names():
            tree.create(name, 0o600)
            tree.get(b"target")
            tree.fs.rename(ROOT_NODEID, name, ROOT_NODEID, b"target", 0)
        assert open_fds() - before <= state(tree).table.max_unopened


def test_files_closed_after_their_unlink_need_no_descriptor_each(tmp_path: Path) -> None:
    with small_union(tmp_path) as tree:
        before = open_fds()
        for name in names():
            fh = tree.open(name, os.O_CREAT | os.O_RDWR, 0o600)
            tree.fs.unlink(ROOT_NODEID, name)
            tree.close(fh)
        assert open_fds() - before <= state(tree).table.max_unopened


def test_an_unlinked_open_file_needs_the_descriptor_of_its_handle_alone(tmp_path: Path) -> None:
    with small_union(tmp_path) as tree:
        opened = [tree.open(name, os.O_CREAT | os.O_RDWR, 0o600) for name in names()[:50]]
        before = open_fds()
        for name in names()[:50]:
            tree.fs.unlink(ROOT_NODEID, name)
        assert open_fds() == before
        for fh in opened:
            tree.pwrite(fh, b"still here", 0)
            assert tree.pread(fh, 99, 0) == b"still here"
            assert tree.fstat(fh).size == 10
        # Others that come and go in between do not take it away.
        for name in names():
            tree.create(name, 0o600)
            tree.fs.unlink(ROOT_NODEID, name)
        assert {tree.fs.getattr(tree.handles[fh].nodeid).st.st_size for fh in opened} == {10}


def test_one_of_two_handles_closed_leaves_an_unlinked_file_whole(tmp_path: Path) -> None:
    with small_union(tmp_path) as tree:
        first = tree.open(b"file", os.O_CREAT | os.O_RDWR, 0o600)
        second = tree.open(b"file", os.O_RDONLY, 0)
        node = tree.handles[first].nodeid
        tree.fs.unlink(ROOT_NODEID, b"file")
        tree.close(second)
        state(tree).table.close_surplus(0)
        tree.pwrite(first, b"more", 0)
        assert tree.fs.getattr(node).st.st_size == 4
        again = tree.fs.open(node, os.O_RDONLY)
        assert tree.fs.read(again, 0, 9) == b"more"
        tree.fs.release(again)


def test_files_are_removed_while_no_more_can_be_opened(tmp_path: Path) -> None:
    with small_union(tmp_path) as tree:
        for name in names():
            tree.create(name, 0o600)
        ids = [nodeid(tree, name) for name in names()[:20]]
        kept: list[int] = []

        def open_all() -> None:
            while True:
                kept.append(os.open("/dev/null", os.O_RDONLY))

        assert errno_of(open_all) == errno.EMFILE
        for name in names()[:20]:
            tree.fs.unlink(ROOT_NODEID, name)
        assert {tree.fs.getattr(each).st_nlink for each in ids} == {0}
        for fd in kept:
            os.close(fd)


def test_more_files_are_open_than_there_are_descriptors(tmp_path: Path) -> None:
    with small_union(tmp_path) as tree:
        for name in names()[:60]:
            tree.mkdir(name, 0o700)
            tree.create(name + b"/file", 0o600)
            tree.listdir(name)

        for number in range(2 * FEW):
            tree.open(names()[number % 60] + b"/file", os.O_RDONLY, 0)
        assert len(tree.handles) == 2 * FEW
        assert all(tree.pread(fh, 0, 10) == b"" for fh in list(tree.handles))


def test_a_recently_unlinked_file_can_be_opened_by_those_who_refer_to_it(tmp_path: Path) -> None:
    with small_union(tmp_path) as tree:
        tree.create(b"file", 0o600)
        tree.write(b"file", 0, b"text")
        node = nodeid(tree, b"file")
        tree.fs.unlink(ROOT_NODEID, b"file")
        fh = tree.fs.open(node, os.O_RDONLY)
        assert tree.fs.read(fh, 0, 9) == b"text"
        tree.fs.release(fh)
        state(tree).table.close_surplus(0)
        assert tree.fs.getattr(node).st.st_size == 4
        assert errno_of(lambda: tree.fs.open(node, os.O_RDONLY)) == errno.ESTALE
        assert errno_of(lambda: tree.fs.setattr(node, SetAttr(mode=0), None)) == errno.ESTALE


def test_the_inode_number_of_a_lost_file_is_free_for_another(tmp_path: Path) -> None:
    with small_union(tmp_path) as tree:
        tree.create(b"one", 0o600)
        tree.link(b"one", b"two")
        lost = nodeid(tree, b"one")
        tree.fs.unlink(ROOT_NODEID, b"one")
        tree.fs.unlink(ROOT_NODEID, b"two")
        table = state(tree).table
        node = table.nodes[lost]
        assert isinstance(node, File)
        assert node.key in table.by_key
        table.close_surplus(0)
        assert node.key not in table.by_key


def test_a_lost_file_comes_back_by_a_name_nobody_knew(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {})
    (layers.upper / "one").write_text("text")
    os.link(layers.upper / "one", layers.upper / "two")
    with few_descriptors(FEW), layers.union() as tree:
        node = nodeid(tree, b"one")
        tree.fs.unlink(ROOT_NODEID, b"one")
        state(tree).table.close_surplus(0)
        assert tree.fs.getattr(node).st_nlink == 1
        assert nodeid(tree, b"two") == node
        assert tree.read(b"two") == b"text"


def test_a_forgotten_file_is_closed_with_no_lock_held(tmp_path: Path) -> None:
    with small_union(tmp_path) as tree:
        tree.create(b"file", 0o600)
        node = nodeid(tree, b"file")
        table = state(tree).table
        tree.fs.unlink(ROOT_NODEID, b"file")
        held: list[bool] = []

        class Watched(int):
            def __del__(self) -> None:
                held.append(table.lock.locked())
                os.close(self)

        file = table.nodes[node]
        assert isinstance(file, File) and file.orphan is not None
        file.orphan = Watched(os.dup(file.orphan))  # type: ignore[assignment]
        del file
        tree.forget_all()
        assert held == [False]
