"""A layer that may not answer: what of it is asked with a lock held."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounts import DEADLINE
from tests.helpers.unions import state_of
from unionfs.core import layer, remote, setup
from unionfs.core.config import UnionConfig
from unionfs.core.inode import Dir, File
from unionfs.core.opening import open_union
from unionfs.core.remote import RemoteUnion
from unionfs.core.union import UnionFs
from unionfs.syscalls.statfs import FUSE, filesystem_type
from unionfs.types import ROOT_NODEID, NodeId


@pytest.fixture
def fs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UnionFs]:
    """A union whose topmost lower, `far`, counts as one on a network filesystem."""
    for name in ("far/d/e", "near/d", "near/n", "upper", "work"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "far/f").write_bytes(bytes(100_000))
    (tmp_path / "near/g").write_bytes(bytes(100_000))
    (tmp_path / "near/d/h").write_text("near")
    far = os.stat(tmp_path / "far").st_ino

    def type_of(fd: int) -> int:
        return FUSE if os.fstat(fd).st_ino == far else filesystem_type(fd)

    monkeypatch.setattr(setup, "filesystem_type", type_of)
    lowers = tuple(os.fsencode(tmp_path / name) for name in ("far", "near"))
    upper, work = (os.fsencode(tmp_path / name) for name in ("upper", "work"))
    union = open_union(UnionConfig(lowers=lowers, upper=upper, work=work))
    yield union
    union.close()


def nodeid(fs: UnionFs, parent: NodeId, name: bytes) -> NodeId:
    attr = fs.lookup(parent, name)
    assert attr is not None
    return attr.nodeid


def test_only_a_union_with_such_a_layer_may_hang(fs: UnionFs, tmp_path: Path) -> None:
    assert isinstance(fs, RemoteUnion)
    assert fs.may_hang()
    assert not fs.gate.patient
    local = open_union(UnionConfig(lowers=(os.fsencode(tmp_path / "near"),)))
    try:
        assert not local.may_hang()
        assert local.gate.patient
    finally:
        local.close()


def test_no_layer_is_asked_between_mount_and_init(
    fs: UnionFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount can be seen then, and who comes to it waits for INIT."""

    def hang(*_: object) -> int:
        pytest.fail("asked a layer")

    with monkeypatch.context() as patch:
        patch.setattr(layer.RealDir, "fd", hang)
        assert fs.stack_depth() == 1


def test_the_layer_is_asked_before_a_lock_is_taken(
    fs: UnionFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each operation waits at `ask`, and meanwhile names of the other layer are found."""
    d = nodeid(fs, ROOT_NODEID, b"d")
    f = nodeid(fs, ROOT_NODEID, b"f")
    assert {entry.name for entry in fs.listdir(d, 0)} >= {b"e", b"h"}
    asked, answer = threading.Event(), threading.Event()
    ask = remote.ask

    def hang(fd: int, name: bytes) -> None:
        asked.set()
        assert answer.wait(DEADLINE)
        ask(fd, name)

    monkeypatch.setattr(remote, "ask", hang)
    operations = (
        lambda: fs.lookup(ROOT_NODEID, b"f"),
        lambda: fs.lookup(d, b"e"),
        lambda: fs.open(f, os.O_WRONLY | os.O_TRUNC),
        lambda: fs.mkdir(d, b"made", 0o755, 0, 0, 0),
        lambda: fs.rename(d, b"e", d, b"moved", 0),
    )
    for operation in operations:
        asked.clear()
        answer.clear()
        thread = threading.Thread(target=operation)
        thread.start()
        assert asked.wait(DEADLINE)
        assert fs.lookup(ROOT_NODEID, b"g") is not None
        assert not state_of(fs).table.directory(ROOT_NODEID).lock.locked()
        answer.set()
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert fs.lookup(d, b"e") is None
    assert fs.lookup(d, b"moved") is not None
    assert fs.lookup(d, b"made") is not None


def test_its_files_are_not_opened_with_the_lock_of_the_transport(fs: UnionFs) -> None:
    """A backing file is; see wire/files.py.  What was copied up is local."""
    f, g = (nodeid(fs, ROOT_NODEID, name) for name in (b"f", b"g"))
    far, near = fs.open(f, os.O_RDONLY), fs.open(g, os.O_RDONLY)
    assert fs.backing(far) is None
    assert fs.backing(near) is not None
    written = fs.open(f, os.O_WRONLY)
    assert fs.backing(written) is not None
    for fh in (far, near, written):
        fs.release(fh)


def test_a_directory_of_it_is_opened_without_the_cache_lock(
    fs: UnionFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = state_of(fs).table
    d = table.directory(nodeid(fs, ROOT_NODEID, b"d"))
    assert isinstance(d, Dir)
    d.lowers[0].unpin()
    fds = d.lowers[0].layer.fds
    held: list[bool] = []

    opened = layer.open_dir

    def look() -> None:
        free = fds.lock.acquire(timeout=0.2)
        held.append(not free)
        if free:
            fds.lock.release()

    def looking(name: bytes, dir_fd: int) -> layer.Fd:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return opened(name, dir_fd)

    monkeypatch.setattr(layer, "open_dir", looking)
    assert os.path.samestat(os.stat(d.lowers[0].fd()), os.stat(d.lowers[0].fd()))
    assert held == [False]
    assert isinstance(table.get(nodeid(fs, ROOT_NODEID, b"f")), File)


def test_a_freeze_does_not_wait_for_ever(fs: UnionFs, tmp_path: Path) -> None:
    with fs.gate.passing(), pytest.raises(OSError, match="does not answer"):
        fs.freeze(os.fsencode(tmp_path / "frozen"))
    assert not fs.gate.closed
    assert fs.lookup(ROOT_NODEID, b"g") is not None


def test_to_wait_for_a_directory_does_not_read_it_by_the_fd_of_others(
    fs: UnionFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All who list by one fd share its position: the other thread would see no names."""
    root = state_of(fs).table.directory(ROOT_NODEID)
    shared = next(real.fd() for real in root.lowers if real.layer.remote)
    listed: list[bool] = []
    listdir = os.listdir

    def noted(path: int) -> list[str]:
        os.lseek(shared, 0, os.SEEK_END)
        before = os.lseek(shared, 0, os.SEEK_CUR)
        names = listdir(path)
        listed.append(before == os.lseek(shared, 0, os.SEEK_CUR) and "d" in names)
        os.lseek(shared, 0, os.SEEK_SET)
        return names

    monkeypatch.setattr(os, "listdir", noted)
    remote.await_dir(root)
    assert listed == [True]
