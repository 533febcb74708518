"""Freezing the upper of a live union: nobody notices, the layer is what the tree was."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.acls import ACL_OF_1234, DEFAULT_ACL
from tests.helpers.as_user import NOBODY
from tests.helpers.calls import (
    FS_APPEND_FL,
    FS_IMMUTABLE_FL,
    FS_IOC_GETFLAGS,
    FS_IOC_SETFLAGS,
)
from tests.helpers.core_driver import CoreDriver
from tests.helpers.faults import DiskFull, system_calls, without_exchange
from tests.helpers.freezing import STACK, Frozen, check_reopened, inos
from tests.helpers.layers import Layers
from tests.helpers.mounts import DEADLINE, require_root, run
from tests.helpers.trees import assert_same, leftovers, raw, snapshot
from tests.helpers.unions import core, errno_of, nodeid, state
from tests.unionfs.core.test_owner_rights import as_nobody
from tests.unionfs.core.test_threads import LOWER, InodeLocks, Worker
from unionfs import MAX_LOWERS
from unionfs.core import freeze as freeze_module
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union
from unionfs.core.union import UnionFs
from unionfs.core.xattr_ids import ACLS
from unionfs.syscalls.renameat2 import RENAME_EXCHANGE
from unionfs.types import FMODE_EXEC, SetAttr


def test_an_upper_that_cannot_be_exchanged_is_swapped_or_stays(tmp_path: Path) -> None:
    layers = Layers(tmp_path, STACK)
    with without_exchange(), layers.union(lowers_change=True, strict=False) as tree:
        union = Frozen(layers, tree)
        tree.unlink(b"old")
        tree.write(b"etc/passwd", 0, b"more")
        before, on_disk = snapshot(tree), os.stat(layers.upper).st_ino
        paths = {os.fsencode(layers.upper), os.fsencode(layers.base / "frozen0.fresh")}
        for failing in range(3):
            renames = itertools.count()

            def fill(
                name: str,
                args: tuple[Any, ...],
                failing: int = failing,
                renames: Iterator[int] = renames,
            ) -> None:
                swaps = name == "rename" and not paths.isdisjoint(args[:2])
                if swaps and next(renames) == failing:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            with system_calls(fill), pytest.raises(OSError, match="No space"):
                union.freeze()
            assert os.stat(layers.upper).st_ino == on_disk
            assert not (layers.base / "frozen0").exists()
            assert_same(before, snapshot(tree), "no freeze")
        frozen = union.freeze()
        assert_same(before, snapshot(tree), "a freeze")
        assert sorted(os.listdir(frozen)) == [".wh.old", "etc"]
        assert os.listdir(layers.upper) == []


def test_the_root_inherits_nothing_from_the_place_of_the_upper(tmp_path: Path) -> None:
    layers = Layers(tmp_path, STACK)
    with layers.union(lowers_change=True, strict=False) as tree:
        union, before = Frozen(layers, tree), tree.get(b"")
        os.setxattr(layers.base, DEFAULT_ACL, ACL_OF_1234)
        os.chown(layers.base, -1, 77)
        layers.base.chmod(0o2755)
        union.freeze()
        assert tree.get(b"").st.st_mode == before.st.st_mode
        assert not ACLS & set(os.listxattr(layers.upper))
        tree.create(b"new", 0o640)
    assert not ACLS & set(os.listxattr(layers.upper / "new"))
    assert (layers.upper / "new").stat().st_gid == 0


def test_the_tree_stays_what_it_is(union: Frozen) -> None:
    tree = union.tree
    tree.write(b"etc/passwd", 0, b"more")
    tree.unlink(b"old")
    tree.mkdir(b"new", 0o755)
    tree.create(b"new/file", 0o640)
    tree.symlink(b"file", b"new/link")
    tree.rename(b"etc/d", b"new/d", 0)
    tree.rename(b"bin/sh", b"etc/sh", 0)
    before = snapshot(tree)
    frozen = union.freeze()
    after = snapshot(tree)
    assert_same(before, after, "a freeze")
    assert inos(before) == inos(after)
    assert (frozen / "etc/passwd").read_bytes() == b"more"
    assert stat.S_ISCHR(os.lstat(frozen / "old").st_mode)
    assert os.listdir(union.layers.upper) == []
    assert union.result.copied == ()
    check_reopened(union)


def test_a_copy_that_is_being_synced_goes_to_the_new_upper(
    union: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A freeze does not wait for a disk; the open that makes the copy has changed nothing yet."""
    tree, fs = union.tree, core(union.tree)
    file = nodeid(tree, b"etc/passwd")
    before = tree.read(b"etc/passwd")
    begun, frozen = threading.Event(), threading.Event()
    fsync = os.fsync

    def wait_for_the_freeze(fd: int) -> None:
        if threading.current_thread() is opening:
            begun.set()
            assert frozen.wait(DEADLINE)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", wait_for_the_freeze)

    def open_and_write() -> None:
        with fs.gate.passing():
            fh = fs.open(file, os.O_WRONLY)
        with fs.gate.passing():
            fs.write(fh, 0, b"written")
            fs.release(fh)

    opening = threading.Thread(target=open_and_write)
    opening.start()
    try:
        assert begun.wait(DEADLINE)
        layer = union.freeze()
    finally:
        frozen.set()
        opening.join()
    assert union.result.copied == ()
    assert not (layer / "etc/passwd").exists()
    after = b"written" + before[len(b"written") :]
    assert (union.layers.upper / "etc/passwd").read_bytes() == after
    assert tree.read(b"etc/passwd") == after
    assert leftovers(union.layers.work) == []
    check_reopened(union)


def test_the_layer_does_not_change_any_more(union: Frozen) -> None:
    tree = union.tree
    tree.write(b"etc/passwd", 0, b"more")
    tree.mkdir(b"new", 0o755)
    tree.create(b"new/file", 0o640)
    was = raw(union.freeze())
    tree.write(b"etc/passwd", 0, b"again")
    tree.write(b"new/file", 0, b"content")
    tree.chmod(b"new", 0o700)
    tree.unlink(b"etc/group")
    tree.create(b"new/other", 0o600)
    tree.rename(b"new", b"newer", 0)
    assert raw(union.layers.lowers[0]) == was
    check_reopened(union)


def test_directories_keep_their_ctime(union: Frozen) -> None:
    """Also a directory that gets a new real directory for a file open for writing."""
    tree = union.tree
    handle = tree.open(b"etc/passwd", os.O_RDWR, 0)
    tree.pwrite(handle, b"before", 0)

    def ctimes() -> list[int]:
        found = [core(tree).getattr(nodeid(tree, path)) for path in (b"", b"etc", b"bin")]
        return [attr.st.st_ctime_ns for attr in found]

    was = ctimes()
    for _ in range(2):
        union.freeze()
        assert ctimes() == was
    tree.chmod(b"etc", 0o711)
    assert ctimes()[1] > was[1]
    tree.close(handle)


def test_many_freezes_keep_the_st_ino(union: Frozen) -> None:
    tree = union.tree
    tree.chmod(b"etc/passwd", 0o600)
    tree.chmod(b"etc/d", 0o700)
    tree.link(b"old", b"etc/d/older")
    was = inos(snapshot(tree))
    for mode in (0o640, 0o644, 0o600):
        union.freeze()
        tree.forget_all()
        tree.chmod(b"etc/passwd", mode)
        tree.chmod(b"etc/d", mode | 0o100)
        assert inos(snapshot(tree)) == was
    check_reopened(union)


def test_a_file_open_for_writing_stays_with_the_union(union: Frozen) -> None:
    tree = union.tree
    handle = tree.open(b"etc/passwd", os.O_RDWR, 0)
    tree.pwrite(handle, b"before", 0)
    ino = os.fstat(core(tree).fileno(tree.handles[handle].fh)).st_ino
    was = inos(snapshot(tree))
    frozen = union.freeze()
    assert union.result.copied == (b"/etc/passwd",)
    assert union.result.copied_bytes == 6
    tree.pwrite(handle, b"after", 6)
    assert (frozen / "etc/passwd").read_bytes() == b"before"
    assert tree.read(b"etc/passwd") == b"beforeafter"
    assert os.stat(union.layers.upper / "etc/passwd").st_ino == ino
    assert inos(snapshot(tree)) == was
    tree.close(handle)
    check_reopened(union)


@pytest.mark.parametrize("mark", [FS_IMMUTABLE_FL, FS_APPEND_FL], ids=["immutable", "grows"])
@pytest.mark.parametrize("marked", [b"", b"etc", b"etc/passwd"])
def test_marks_of_chattr_stay_and_stop_nothing(tmp_path: Path, marked: bytes, mark: int) -> None:
    """A file in use moves though it, or a directory on its way, may not be renamed."""
    require_root()
    layers = Layers(tmp_path, {"etc": {"passwd": "root"}})
    with layers.union(lowers_change=True) as tree:
        handle = tree.open(b"etc/passwd", os.O_RDWR | os.O_APPEND, 0)
        node = nodeid(tree, marked)
        flags = int.from_bytes(core(tree).fileattr(node, FS_IOC_GETFLAGS, b""), "little")
        core(tree).fileattr(node, FS_IOC_SETFLAGS, (flags | mark).to_bytes(4, "little"))
        before = core(tree).getattr(node).st
        try:
            for number in range(2):
                core(tree).freeze(os.fsencode(tmp_path / f"frozen{number}"))
                found = core(tree).fileattr(node, FS_IOC_GETFLAGS, b"")
                assert int.from_bytes(found, "little") & mark
            if marked != b"etc/passwd":
                tree.pwrite(handle, b"more", 4)
                assert tree.read(b"etc/passwd") == b"rootmore"
                assert (tmp_path / "frozen0/etc/passwd").read_bytes() == b"root"
                assert core(tree).getattr(node).st.st_ctime_ns == before.st_ctime_ns
        finally:
            run("chattr", "-R", "-f", "-i", "-a", tmp_path, check=False)
        tree.close(handle)


@pytest.mark.parametrize("kept", [True, False])
def test_a_file_may_lose_its_name_while_it_is_copied_ahead(union: Frozen, kept: bool) -> None:
    """The copy is that of the file, not of another that has its name by then."""
    tree = union.tree
    handle = tree.open(b"etc/passwd", os.O_RDWR, 0)
    tree.pwrite(handle, b"mine", 0)
    planned = ["change"]

    def change(name: str, args: tuple[Any, ...]) -> None:
        if name == "open" and args[0] == b"passwd" and planned:
            planned.clear()
            if kept:
                tree.rename(b"etc/passwd", b"bin/moved", 0)
                tree.create(b"etc/passwd", 0o644)
            else:
                tree.unlink(b"etc/passwd")

    with system_calls(change):
        frozen = union.freeze(ahead=True)
    assert not planned
    assert union.result.copied == ((b"/bin/moved",) if kept else ())
    if kept:
        assert (frozen / "bin/moved").read_bytes() == b"mine"
    tree.pwrite(handle, b"!", 4)
    tree.close(handle)
    check_reopened(union)


def test_a_file_without_a_name_stays_and_may_get_one(union: Frozen) -> None:
    tree = union.tree
    tree.create(b"gone", 0o600)
    gone = tree.open(b"gone", os.O_RDWR, 0)
    tree.unlink(b"gone")
    attr, fh = core(tree).tmpfile(nodeid(tree, b"etc"), 0o644, os.O_RDWR, 0, 0, 0)
    union.freeze()
    tree.pwrite(gone, b"still", 0)
    assert tree.pread(gone, 10, 0) == b"still"
    assert tree.fstat(gone).nlink == 0
    core(tree).write(fh, 0, b"nameless")
    linked = core(tree).link(attr.nodeid, nodeid(tree, b"etc"), b"named")
    core(tree).release(fh)
    assert tree.read(b"etc/named") == b"nameless"
    for number in (attr.nodeid, linked.nodeid):
        core(tree).forget(number, 1)
    check_reopened(union)


def test_a_reader_keeps_what_it_opened_and_sees_later_changes(union: Frozen) -> None:
    tree = union.tree
    tree.write(b"etc/passwd", 0, b"upper")
    handle = tree.open(b"etc/passwd", os.O_RDONLY, 0)
    frozen = union.freeze()
    assert tree.pread(handle, 10, 0) == b"upper"
    tree.write(b"etc/passwd", 0, b"LATER")
    assert tree.pread(handle, 10, 0) == b"LATER"
    assert (frozen / "etc/passwd").read_bytes() == b"upper"
    check_reopened(union)


@pytest.mark.parametrize(
    ("flags", "stays"), [(os.O_RDONLY, True), (os.O_RDONLY | FMODE_EXEC, False)]
)
def test_a_file_that_the_kernel_reads_by_itself_stays_with_the_union(
    union: Frozen, flags: int, stays: bool
) -> None:
    """It could not be written to through the same inode otherwise; nor can a running program."""
    tree = union.tree
    tree.write(b"etc/passwd", 0, b"upper")
    core(tree).note_passthrough()
    ino = os.stat(union.layers.upper / "etc/passwd").st_ino
    fh = core(tree).open(nodeid(tree, b"etc/passwd"), flags)
    frozen = union.freeze()
    assert union.result.copied == ((b"/etc/passwd",) if stays else ())
    assert os.fstat(core(tree).fileno(fh)).st_ino == ino
    kept = union.layers.upper if stays else frozen
    assert (kept / "etc/passwd").stat().st_ino == ino
    assert (frozen / "etc/passwd").read_bytes() == b"upper"
    core(tree).release(fh)
    check_reopened(union)


def test_those_who_kept_the_lower_file_do_not_reach_the_layer(union: Frozen) -> None:
    tree = union.tree
    old = nodeid(tree, b"etc/passwd")
    tree.write(b"etc/passwd", 0, b"upper")
    core(tree).renew(old)
    frozen = union.freeze()
    was = raw(frozen)
    core(tree).setattr(old, SetAttr(mode=0o600), None)
    assert raw(frozen) == was
    check_reopened(union)


def test_a_listing_in_progress_goes_on(union: Frozen) -> None:
    tree = union.tree
    for number in range(50):
        tree.create(b"etc/%d" % number, 0o600)
    fs = core(tree)
    fh = fs.opendir(nodeid(tree, b"etc"))
    first = [entry for entry, _ in zip(fs.readdir(fh, 0), range(20), strict=False)]
    union.freeze()
    rest = list(fs.readdir(fh, first[-1].cookie))
    fs.releasedir(fh)
    names = [entry.name for entry in (*first, *rest)]
    assert len(names) == len(set(names)) == 2 + 3 + 50


def test_a_removed_directory_stays_removed(union: Frozen) -> None:
    tree = union.tree
    tree.mkdir(b"doomed", 0o755)
    number = nodeid(tree, b"doomed")
    tree.rmdir(b"doomed")
    union.freeze()
    fs = core(tree)
    assert fs.getattr(number).st_nlink == 0
    assert list(fs.listdir(number, 0)) == []
    assert errno_of(lambda: fs.mkdir(number, b"x", 0o755, 0, 0, 0)) == errno.ENOENT


def test_root_keeps_its_attributes(tmp_path: Path) -> None:
    layers = Layers(tmp_path, STACK)
    os.chown(layers.upper, 7, 8)
    layers.upper.chmod(0o711)
    os.setxattr(layers.upper, "user.mine", b"1")
    with layers.union(lowers_change=True, strict=False) as tree:
        union = Frozen(layers, tree)
        tree.create(b"file", 0o600)
        before = tree.lstat(b"")
        union.freeze()
        assert tree.lstat(b"") == before
        assert tree.getxattr(b"", "user.mine") == b"1"
        check_reopened(union)


def test_what_cannot_be_is_refused_and_changes_nothing(union: Frozen, tmp_path: Path) -> None:
    tree, fs = union.tree, core(union.tree)
    tree.create(b"file", 0o600)
    before = raw(union.layers.upper)
    inside = os.fsencode(union.layers.upper / "inside")
    assert errno_of(lambda: fs.freeze(inside)) == errno.EINVAL
    assert errno_of(lambda: fs.freeze(os.fsencode(tmp_path / "no/where"))) == errno.ENOENT
    assert errno_of(lambda: fs.freeze(os.fsencode(union.layers.upper))) == errno.EEXIST
    assert errno_of(lambda: fs.freeze(b"/dev/shm/pyunion-freeze")) == errno.EXDEV
    assert not os.path.exists("/dev/shm/pyunion-freeze")
    assert raw(union.layers.upper) == before
    union.freeze()
    assert tree.lstat(b"file").size == 0


def test_a_full_disk_changes_nothing(union: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = union.tree
    handle = tree.open(b"etc/passwd", os.O_RDWR, 0)
    before = raw(union.layers.upper)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(freeze_module, "copy_range", full)
        patch.setattr(freeze_module, "try_reflink", lambda src, dst: False)
        to = os.fsencode(union.layers.base / "never")
        assert errno_of(lambda: core(tree).freeze(to)) == errno.ENOSPC
    assert not os.path.exists(to)
    assert raw(union.layers.upper) == before
    tree.pwrite(handle, b"on", 0)
    tree.close(handle)
    union.freeze()
    check_reopened(union)


def test_a_read_only_union_and_a_full_stack_are_refused(tmp_path: Path) -> None:
    layers = Layers(tmp_path, STACK)
    with layers.union(**layers.read_only()) as tree:
        to = os.fsencode(tmp_path / "to")
        assert errno_of(lambda: core(tree).freeze(to)) == errno.EROFS
    layers.lowers = [tmp_path / f"l{number}" for number in range(MAX_LOWERS)]
    for lower in layers.lowers:
        lower.mkdir()
    fs = open_union(layers.config())
    try:
        assert errno_of(lambda: fs.freeze(to)) == errno.EINVAL
    finally:
        fs.close()


def test_the_frozen_layer_and_a_copy_of_it_amount_to_the_same(union: Frozen) -> None:
    """What the layer shows is in what it holds, not in where its inodes come from."""
    tree = union.tree
    tree.write(b"etc/passwd", 0, b"more")
    tree.rename(b"etc", b"moved", 0)
    frozen = union.freeze()
    wanted = snapshot(tree)
    copy = frozen.with_name("copy")
    run("cp", "-a", frozen, copy)
    union.layers.lowers[0] = copy
    union.tree.finish()
    core(tree).close()
    assert wanted.keys() == union.layers.look().keys()


@pytest.mark.parametrize("seed", range(2))
def test_threads_do_not_notice(tmp_path: Path, seed: int) -> None:
    layers = Layers(tmp_path, LOWER, {"a": {"low": "under", "3": "a3"}, "c": {"1": "c1"}})
    os.link(layers.lowers[0] / "a/link1", layers.lowers[0] / "c/link2")
    with layers.union(lowers_change=True, strict=False, volatile=True) as tree:
        union = Frozen(layers, tree)
        locks, gated = InodeLocks(), Gated(core(tree))
        workers = [Worker(gated, locks, 100 * seed + n, 400) for n in range(4)]
        for worker in workers:
            worker.start()
        was = []
        while any(worker.is_alive() for worker in workers) and union.count < 30:
            frozen = union.freeze()
            was.append((frozen, raw(frozen)))
        for worker in workers:
            worker.join(30)
        assert not [worker.name for worker in workers if worker.is_alive()], "a deadlock"
        assert not [line for worker in workers for line in worker.wrong]
        for frozen, content in was:
            assert raw(frozen) == content, "a frozen layer was changed"
        live = snapshot(tree)
        tree.finish()
        core(tree).close()
        again = layers.look()
        # What hides a link of a lower file is known to the mount that did it only.
        one, other = ({path: o.with_nlink(0) for path, o in t.items()} for t in (live, again))
        assert_same(one, other, "the stack opened afresh")
        assert inos(live) == inos(again)


class Gated:
    """A union whose every call passes the gate, as a transport's do."""

    def __init__(self, fs: UnionFs) -> None:
        self.fs = fs

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self.fs, name)

        def passing(*args: object) -> Any:
            with self.fs.gate.passing():
                answer = call(*args)
                return list(answer) if isinstance(answer, Iterator) else answer

        return passing


def test_freezes_take_turns(union: Frozen) -> None:
    fs, base = core(union.tree), union.layers.base
    union.tree.create(b"file", 0o600)
    threads = [
        threading.Thread(target=fs.freeze, args=(os.fsencode(base / f"turn{n}"),)) for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(state(union.tree).lowers) == 6
    assert union.tree.lstat(b"file").size == 0


class _Full(DiskFull):
    """A full disk, on which what is there can still change places."""

    def __call__(self, name: str, args: tuple[Any, ...]) -> None:
        if name != "_renameat2" or not args[-1] & RENAME_EXCHANGE:
            super().__call__(name, args)


@pytest.mark.parametrize("ahead", [False, True])
def test_a_disk_that_fills_up_at_any_point(tmp_path: Path, ahead: bool) -> None:
    for number in itertools.count(1):
        layers = Layers(tmp_path / str(number), STACK)
        with layers.union(lowers_change=True, strict=False) as tree:
            union = Frozen(layers, tree)
            tree.mkdir(b"etc/d/e", 0o750)
            tree.create(b"etc/d/e/deep", 0o640)
            tree.link(b"etc/d/e/deep", b"bin/other")
            tree.rename(b"etc/d", b"moved", 0)
            handles = [tree.open(name, os.O_RDWR, 0) for name in (b"moved/e/deep", b"etc/passwd")]
            for handle in handles:
                tree.pwrite(handle, b"before", 0)
            before, on_disk = snapshot(tree), raw(layers.upper)
            staged = set(leftovers(layers.work))
            hook = _Full(number, errno.ENOSPC)
            failed = None
            try:
                with system_calls(hook):
                    union.freeze(ahead=ahead)
            except OSError as error:
                failed = error.errno
            if failed is not None:
                assert failed == errno.ENOSPC
                assert not (layers.base / "frozen0").exists(), hook.struck
                assert raw(layers.upper) == on_disk, hook.struck
                assert set(leftovers(layers.work)) <= staged, hook.struck
                union.freeze(ahead=ahead)
            assert_same(before, snapshot(tree), f"a freeze after {hook.struck}")
            was = raw(layers.lowers[0])
            for handle in handles:
                tree.pwrite(handle, b"after", 6)
                assert tree.pread(handle, 20, 0)[:11] == b"beforeafter"
                tree.close(handle)
            assert raw(layers.lowers[0]) == was, hook.struck
            assert tree.read(b"bin/other") == b"beforeafter"
            check_reopened(union)
        if hook.struck is None:
            break
    assert number > 10


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("renewed", [False, True])
@pytest.mark.parametrize("mode", [0o755, 0o555, 0o300, 0o100, 0o600, 0o000])
def test_an_ordinary_user_may_have_open_what_keeps_even_the_owner_out(
    ahead: bool, renewed: bool, mode: int
) -> None:
    """Files of mode 0 in directories of `mode`; the daemon has the rights of that user."""
    require_root()
    with tempfile.TemporaryDirectory(prefix="unionfs-test-") as made:
        _freeze_closed(Path(made), ahead=ahead, renewed=renewed, mode=mode)


def _freeze_closed(tmp_path: Path, *, ahead: bool, renewed: bool, mode: int) -> None:
    tmp_path.chmod(0o755)
    for name in ("lower/d", "upper", "work", "to"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "lower/d/kept").write_text("lower")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, NOBODY, NOBODY)

    def work(fd: int) -> None:
        os.fchdir(fd)
        fs = open_union(UnionConfig(lowers=(b"lower",), upper=b"upper", work=b"work"))
        tree = CoreDriver(fs)
        tree.mkdir(b"e", 0o755)
        tree.mkdir(b"e/f", 0o755)
        handles = []
        for name in (b"d/new", b"e/new", b"d/kept", b"e/f/new"):
            if name != b"d/kept":
                tree.create(name, 0o600)
            tree.setxattr(name, "user.own", b"value", 0)
            handles.append(fs.open(nodeid(tree, name), os.O_WRONLY))
            fs.write(handles[-1], 0, name)
        tree.link(b"d/new", b"e/again")
        old = nodeid(tree, b"d/kept")
        for name in (b"d/new", b"e/new", b"d/kept", b"e/f/new"):
            tree.chmod(name, 0)
        for name in (b"d", b"e/f", b"e"):
            tree.chmod(name, mode)
        if renewed:
            fs.renew(old)
        frozen = fs.freeze(b"to/frozen", ahead=ahead)
        assert len(frozen.copied) >= 3, frozen
        for fh in handles:
            fs.write(fh, 0, b"later")
            fs.release(fh)
        fs.close()

    as_nobody(work, tmp_path)
    for top in ("upper", "to/frozen"):
        for name in ("d", "e", "e/f"):
            assert (tmp_path / top / name).stat().st_mode & 0o777 == mode
    for name in ("d/new", "e/new", "d/kept", "e/again", "e/f/new"):
        st = (tmp_path / "to/frozen" / name).stat()
        assert (st.st_mode & 0o777, st.st_uid) == (0, NOBODY)
    assert (tmp_path / "to/frozen/e/new").read_bytes() == b"e/new"
    assert (tmp_path / "upper/e/new").read_bytes() == b"later"
