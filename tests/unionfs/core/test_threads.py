"""Many threads on one union: no deadlock, no impossible error, and memory stays true to disk."""

from __future__ import annotations

import errno
import os
import random
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.trees import Tree, assert_same, snapshot
from tests.helpers.unions import Content, core
from unionfs.core.config import WhiteoutForm
from unionfs.types import ROOT_NODEID, Attr, NodeId, SetAttr

pytestmark = pytest.mark.timeout(60)

THREADS = 5
OPERATIONS = 400
POSSIBLE = {
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EINVAL,
    errno.EPERM,  # a hard link of a directory
    errno.ELOOP,
}
FOLDERS = (b"a", b"b", b"a/x", b"b/y", b"a/x/deep", b"c")
NAMES = (b"1", b"2", b"3", b"low", b"link1", b"link2")
LOWER: Content = {
    "a": {"1": "a1", "low": "data", "link1": "linked", "x": {"2": "x2", "deep": {"1": "deep"}}},
    "b": {"2": "b2", "low": "data", "y": {"1": "y1", "low": "y"}},
    "c": {"low": "c"},
}


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class InodeLocks:
    """What the kernel locks around a call: directories whose names change, files that change.

    Source: filesystems/directory-locking.rst.
    """

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._freed = threading.Condition()
        self.renames = threading.Lock()

    @contextmanager
    def of(self, *nodeids: NodeId) -> Iterator[None]:
        """Hold the locks of all of `nodeids`, taken at one stroke."""
        wanted = set(nodeids)
        with self._freed:
            self._freed.wait_for(lambda: not wanted & self._held)
            self._held |= wanted
        try:
            yield
        finally:
            with self._freed:
                self._held -= wanted
                self._freed.notify_all()


class Worker(threading.Thread):
    """One client of the union, which does random things as the kernel would ask for them."""

    def __init__(self, fs: Any, locks: InodeLocks, seed: int, operations: int) -> None:
        super().__init__(name=f"worker {seed}", daemon=True)
        self.fs = fs
        self.locks = locks
        self.random = random.Random(seed)
        self.operations = operations
        self.held: list[NodeId] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        actions: list[Callable[[], object]] = [
            self.create,
            self.write,
            self.write,
            self.chmod,
            self.unlink,
            self.unlink,
            self.mkdir,
            self.rmdir,
            self.rename,
            self.rename,
            self.rename_folder,
            self.exchange,
            self.link,
            self.list,
            self.read,
            self.set_xattr,
        ]
        for _ in range(self.operations):
            action = self.random.choice(actions)
            try:
                self.attempt(action)
            except OSError as error:
                if error.errno not in POSSIBLE:
                    self.wrong.append(f"{action.__name__}: {error!r}")
            except BaseException as error:
                self.wrong.append(f"{action.__name__}: {error!r}")
                raise
            finally:
                for nodeid in self.held:
                    self.fs.forget(nodeid, 1)
                self.held.clear()

    def attempt(self, action: Callable[[], object]) -> None:
        """Do as the VFS: what gives ESTALE is looked up afresh, once."""
        state = self.random.getstate()
        try:
            action()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            self.random.setstate(state)
            action()

    def keep(self, attr: Attr) -> NodeId:
        self.held.append(attr.nodeid)
        return attr.nodeid

    def walk(self, path: bytes) -> NodeId:
        at = ROOT_NODEID
        for name in path.split(b"/"):
            attr = self.fs.lookup(at, name)
            if attr is None:
                raise FileNotFoundError(errno.ENOENT, path)
            at = self.keep(attr)
        return at

    def folder(self) -> NodeId:
        return self.walk(self.random.choice(FOLDERS))

    def any_name(self) -> bytes:
        return self.random.choice(NAMES)

    def file(self) -> NodeId:
        return self.walk(self.random.choice(FOLDERS) + b"/" + self.any_name())

    def files(self, *places: tuple[NodeId, bytes]) -> list[NodeId]:
        """Look up `places`, as the kernel does for who changes names; return which are files."""
        found = [self.fs.lookup(parent, name) for parent, name in places]
        for attr in found:
            if attr is not None:
                self.keep(attr)
        return [attr.nodeid for attr in found if attr is not None and not is_dir(attr)]

    def create(self) -> None:
        folder = self.folder()
        with self.locks.of(folder):
            attr, fh = self.fs.create(folder, self.any_name(), 0o644, os.O_RDWR, 0, 0, 0)
        self.keep(attr)
        self.fs.write(fh, 0, b"created")
        self.fs.release(fh)

    def write(self) -> None:
        nodeid = self.file()
        fh = self.fs.open(nodeid, os.O_RDWR)
        try:
            self.fs.read(fh, 0, 10)
            self.fs.write(fh, 0, b"written")
            self.fs.getattr(nodeid, fh)
        finally:
            self.fs.release(fh)

    def read(self) -> None:
        nodeid = self.file()
        fh = self.fs.open(nodeid, os.O_RDONLY)
        try:
            self.fs.read(fh, 0, 10)
            self.fs.getattr(nodeid)
            self.fs.listxattr(nodeid)
        finally:
            self.fs.release(fh)

    def chmod(self) -> None:
        nodeid = self.file()
        with self.locks.of(nodeid):
            self.fs.setattr(nodeid, SetAttr(mode=self.random.choice((0o600, 0o644))), None)

    def set_xattr(self) -> None:
        nodeid = self.file()
        with self.locks.of(nodeid):
            self.fs.setxattr(nodeid, b"user.some", b"value", 0)

    def unlink(self) -> None:
        folder, name = self.folder(), self.any_name()
        with self.locks.of(folder), self.locks.of(*self.files((folder, name))):
            self.fs.unlink(folder, name)

    def one_of_folders(self) -> tuple[NodeId, bytes]:
        parent, _, name = self.random.choice(FOLDERS).rpartition(b"/")
        return self.walk(parent) if parent else ROOT_NODEID, name

    def mkdir(self) -> None:
        parent, name = self.one_of_folders()
        with self.locks.of(parent):
            self.keep(self.fs.mkdir(parent, name, 0o755, 0, 0, 0))

    def rmdir(self) -> None:
        parent, name = self.one_of_folders()
        with self.locks.of(parent):
            self.files((parent, name))
            self.fs.rmdir(parent, name)

    def rename(self) -> None:
        self.move((self.folder(), self.any_name()), (self.folder(), self.any_name()), 0)

    def rename_folder(self) -> None:
        self.move(self.one_of_folders(), self.one_of_folders(), 0)

    def exchange(self) -> None:
        self.move((self.folder(), self.any_name()), (self.folder(), self.any_name()), 2)

    def move(self, source: tuple[NodeId, bytes], target: tuple[NodeId, bytes], flags: int) -> None:
        with (
            self.locks.renames,
            self.locks.of(source[0], target[0]),
            self.locks.of(*self.files(source, target)),
        ):
            self.fs.rename(*source, *target, flags)

    def link(self) -> None:
        nodeid, folder = self.file(), self.folder()
        with self.locks.of(folder), self.locks.of(nodeid):
            self.keep(self.fs.link(nodeid, folder, self.any_name()))

    def list(self) -> None:
        nodeid = self.folder()
        fh = self.fs.opendir(nodeid)
        names = [entry.name for entry in self.fs.readdir(fh, 0)]
        self.fs.releasedir(fh)
        assert len(names) == len(set(names)), f"a name is listed twice: {names}"
        self.fs.getattr(nodeid)


def is_dir(attr: Attr) -> bool:
    return stat.S_ISDIR(attr.st.st_mode)


def live_and_reopened(layers: Layers, tree: CoreDriver, **settings: Any) -> tuple[Tree, Tree]:
    """Return what the union in use shows, and what a fresh one over the same layers does."""
    live = snapshot(tree)
    tree.finish()
    core(tree).close()
    return live, layers.look(**settings)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "settings",
    [{}, {"metacopy": True}, {"whiteout": WhiteoutForm.XATTR}, {"whiteout": WhiteoutForm.AUFS}],
    ids=["default", "metacopy", "xattr", "aufs"],
)
def test_memory_is_true_to_disk_in_the_end(
    tmp_path: Path, settings: dict[str, Any], seed: int
) -> None:
    layers = Layers(tmp_path, LOWER, {"a": {"low": "under", "3": "a3"}, "c": {"1": "c1"}})
    os.link(layers.lowers[0] / "a/link1", layers.lowers[0] / "c/link2")
    with layers.union(volatile=True, strict=False, **settings) as tree:
        locks = InodeLocks()
        workers = [Worker(core(tree), locks, 100 * seed + n, OPERATIONS) for n in range(THREADS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(30)
        assert not [worker.name for worker in workers if worker.is_alive()], "a deadlock"
        assert not [line for worker in workers for line in worker.wrong]
        live, reopened = live_and_reopened(layers, tree, **settings)
        assert_same(reopened, live, "the union remembers other than what is on disk")
        assert {p: o.ino for p, o in live.items()} == {p: o.ino for p, o in reopened.items()}
