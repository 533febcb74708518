"""Names that change hands between being read and being used."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.as_user import NOBODY
from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.mounts import require_root
from tests.helpers.unions import nodeid, state
from tests.unionfs.core.test_owner_rights import as_nobody
from unionfs.core.config import UnionConfig
from unionfs.core.layer import RealDir
from unionfs.core.opening import open_union
from unionfs.types import ROOT_NODEID, NodeId, SetAttr

NOT_LONG = 0.2

Plan = Callable[[Callable[[], object]], threading.Thread]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Return a function to do something in another thread as soon as a directory is asked for.

    It is then waited for, but not long: it may have to wait for the lock of
    the very operation it interrupts.  The thread is returned, to be joined.
    """
    original = RealDir.fd
    planned: list[threading.Thread] = []

    def fd(self: RealDir) -> int:
        found = original(self)
        if planned and threading.current_thread() is threading.main_thread():
            thread = planned.pop()
            thread.start()
            thread.join(NOT_LONG)
        return found

    def plan(action: Callable[[], object]) -> threading.Thread:
        planned.append(threading.Thread(target=action))
        return planned[-1]

    monkeypatch.setattr(RealDir, "fd", fd)
    return plan


def replace(tree: CoreDriver) -> Callable[[], object]:
    """Return what gives the name `file` to another file."""
    return lambda: tree.fs.rename(ROOT_NODEID, b"other", ROOT_NODEID, b"file", 0)


def two_files(tree: CoreDriver) -> NodeId:
    """Make `file` and `other`, and return the nodeid of the first."""
    tree.create(b"other", 0o600)
    tree.setxattr(b"other", "user.who", b"other", 0)
    tree.create(b"file", 0o600)
    tree.setxattr(b"file", "user.who", b"file", 0)
    return nodeid(tree, b"file")


@pytest.mark.parametrize(
    "change", [SetAttr(mode=0o4755), SetAttr(uid=77, gid=77), SetAttr(mtime_ns=5)]
)
def test_setattr_never_hits_another_file(tmp_path: Path, meanwhile: Plan, change: SetAttr) -> None:
    with Layers(tmp_path).union() as tree:
        held = two_files(tree)
        was = tree.lstat(b"other")
        thread = meanwhile(replace(tree))
        tree.fs.setattr(held, change, None)
        thread.join()
        now = tree.lstat(b"file")
        assert now.ino == was.ino
        assert now == was
        attr = tree.fs.getattr(held)
        assert attr.st_nlink == 0
        if change.mode is not None:
            assert stat.S_IMODE(attr.st.st_mode) == change.mode


def test_xattrs_never_hit_another_file(tmp_path: Path, meanwhile: Plan) -> None:
    with Layers(tmp_path).union() as tree:
        held = two_files(tree)
        thread = meanwhile(replace(tree))
        tree.fs.setxattr(held, b"user.new", b"1", 0)
        thread.join()
        assert tree.listxattr(b"file") == ["user.who"]
        assert tree.getxattr(b"file", "user.who") == b"other"
        assert tree.fs.getxattr(held, b"user.who") == b"file"
        assert tree.fs.getxattr(held, b"user.new") == b"1"


def test_getxattr_never_reads_another_file(tmp_path: Path, meanwhile: Plan) -> None:
    with Layers(tmp_path).union() as tree:
        held = two_files(tree)
        thread = meanwhile(replace(tree))
        found = tree.fs.getxattr(held, b"user.who")
        thread.join()
        assert found == b"file"


def test_readlink_never_reads_another_link(tmp_path: Path, meanwhile: Plan) -> None:
    with Layers(tmp_path).union() as tree:
        tree.symlink(b"to other", b"other")
        tree.symlink(b"to file", b"file")
        held = nodeid(tree, b"file")
        thread = meanwhile(replace(tree))
        found = tree.fs.readlink(held)
        thread.join()
        assert found == b"to file"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["whiteout", "symlink", "fifo", "directory"])
def test_open_finds_a_file_whose_name_became_something_else(
    tmp_path: Path, meanwhile: Plan, kind: str
) -> None:
    """Opening a whiteout gives ENXIO, and opening a fifo would block for good."""
    with Layers(tmp_path, {"file": "mine"}).union() as tree:
        tree.chmod(b"file", 0o600)
        held = nodeid(tree, b"file")
        name = b"file"

        def change() -> None:
            tree.fs.unlink(ROOT_NODEID, name)
            attr = None
            if kind == "symlink":
                attr = tree.fs.symlink(ROOT_NODEID, name, b"file", 0, 0)
            elif kind == "fifo":
                attr = tree.fs.mknod(ROOT_NODEID, name, stat.S_IFIFO | 0o600, 0, 0, 0, 0)
            elif kind == "directory":
                attr = tree.fs.mkdir(ROOT_NODEID, name, 0o700, 0, 0, 0)
            if attr is not None:
                tree.fs.forget(attr.nodeid, 1)

        thread = meanwhile(change)
        fh = tree.fs.open(held, os.O_RDONLY if kind == "fifo" else os.O_RDWR)
        thread.join()
        assert tree.fs.read(fh, 0, 10) == b"mine"
        tree.fs.release(fh)


def test_stat_follows_a_file_that_moves(tmp_path: Path, meanwhile: Plan) -> None:
    with Layers(tmp_path).union() as tree:
        held = two_files(tree)
        tree.mkdir(b"d", 0o755)
        tree.write(b"file", 0, b"12345")
        folder = nodeid(tree, b"d")
        thread = meanwhile(lambda: tree.fs.rename(ROOT_NODEID, b"file", folder, b"moved", 0))
        found = tree.fs.getattr(held)
        thread.join()
        assert found.st.st_size == 5


def test_stat_follows_a_link_that_loses_its_first_name(tmp_path: Path, meanwhile: Plan) -> None:
    with Layers(tmp_path).union() as tree:
        held = two_files(tree)
        tree.mkdir(b"d", 0o755)
        tree.link(b"file", b"d/link")
        thread = meanwhile(lambda: tree.fs.unlink(ROOT_NODEID, b"file"))
        found = tree.fs.getattr(held)
        thread.join()
        assert found.st_nlink == 1


CLOSED = pytest.mark.parametrize("mode", [0o600, 0o200, 0o000])


@CLOSED
@pytest.mark.parametrize("closed", [False, True], ids=["its fd is open", "its fd was closed"])
def test_what_is_open_in_a_directory_that_keeps_its_owner_out_goes_on(
    mode: int, closed: bool
) -> None:
    """The daemon is an ordinary user's, and reaches files by their names."""
    require_root()
    with tempfile.TemporaryDirectory(prefix="unionfs-test-") as made:
        base = Path(made)
        base.chmod(0o755)
        for name in ("lower/d", "upper", "work"):
            (base / name).mkdir(parents=True)
        for name in ("kept", "read"):
            (base / "lower/d" / name).write_text("lower")
        for path in (base, *base.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        as_nobody(partial(_go_on, mode, closed), base)
        st = (base / "upper/d").stat()
        assert stat.S_IMODE(st.st_mode) == mode


def _go_on(mode: int, closed: bool, base: int) -> None:
    os.fchdir(base)
    fs = open_union(UnionConfig(lowers=(b"lower",), upper=b"upper", work=b"work"))
    tree = CoreDriver(fs)
    tree.create(b"d/new", 0o600)
    opened = {}
    for name, flags in ((b"d/new", os.O_RDWR), (b"d/kept", os.O_RDWR), (b"d/read", os.O_RDONLY)):
        opened[nodeid(tree, name)] = fs.open(nodeid(tree, name), flags), flags
    tree.chmod(b"d", mode)
    if closed:
        state(tree).fds.relief()
    for node, (fh, flags) in opened.items():
        fs.read(fh, 0, 10)
        fs.fsync(fh, False)
        if flags == os.O_RDWR:
            fs.write(fh, 0, b"text")
            fs.setattr(node, SetAttr(size=3), fh)
        for handle in (fh, None):
            fs.setattr(node, SetAttr(mode=0o640), handle)
            fs.setattr(node, SetAttr(times_now=True), handle)
            assert stat.S_IMODE(fs.getattr(node, handle).st.st_mode) == 0o640
        fs.setxattr(node, b"user.a", b"1", 0)
        assert (fs.listxattr(node), fs.getxattr(node, b"user.a")) == ([b"user.a"], b"1")
        fs.removexattr(node, b"user.a")
        fs.release(fh)
    fs.close()
