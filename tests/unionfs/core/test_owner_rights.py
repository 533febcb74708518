"""Working on what keeps even its owner out, without root's privileges."""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.as_user import NOBODY, become_nobody
from tests.helpers.core_driver import CoreDriver
from tests.helpers.mounts import DEADLINE, require_root
from tests.helpers.unions import errno_of, nodeid, state
from unionfs.core.config import Atime, UnionConfig
from unionfs.core.opening import open_union
from unionfs.core.owner_rights import as_owner, may_be_widened, modes_settled, settled
from unionfs.types import ROOT_NODEID, SetAttr


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory of mode 0555 that the ordinary user owns, with a directory like that."""
    require_root()
    base = tmp_path / "base"
    (base / "closed/inner").mkdir(parents=True)
    (base / "closed/file").write_text("x")
    for path, mode in (("closed/inner", 0o555), ("closed/file", 0o400), ("closed", 0o555)):
        os.chown(base / path, NOBODY, NOBODY)
        (base / path).chmod(mode)
    os.chown(base, NOBODY, NOBODY)
    return base


def as_nobody(work: Callable[[int], None], base: Path) -> None:
    """Call `work` with an fd of `base`, in a child that is the ordinary user."""
    fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    child = os.fork()
    if not child:
        status = 1
        try:
            become_nobody()
            work(fd)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(fd)
    assert os.waitpid(child, 0)[1] == 0


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_directory_of_mode_0555_is_moved_out_of_another(base: Path) -> None:
    def work(fd: int) -> None:
        closed = os.open("closed", os.O_PATH, dir_fd=fd)
        as_owner(
            lambda: os.rename("inner", "moved", src_dir_fd=closed, dst_dir_fd=fd),
            (closed, b"inner"),
            (closed, None),
        )

    as_nobody(work, base)
    assert mode_of(base / "closed") == mode_of(base / "moved") == 0o555


def test_modes_are_put_back_after_a_failure(base: Path) -> None:
    def work(fd: int) -> None:
        closed = os.open("closed", os.O_PATH, dir_fd=fd)
        try:
            as_owner(lambda: os.rename("no", "moved", src_dir_fd=closed, dst_dir_fd=fd), (fd, None))
        except FileNotFoundError:
            pass
        else:
            raise AssertionError
        try:
            as_owner(lambda: os.mkdir("inner", dir_fd=closed), (closed, None))
        except FileExistsError:
            return
        raise AssertionError

    as_nobody(work, base)
    assert mode_of(base / "closed") == 0o555


def test_what_another_owns_stays_closed(base: Path) -> None:
    os.chown(base / "closed", 0, 0)

    def work(fd: int) -> None:
        closed = os.open("closed", os.O_PATH, dir_fd=fd)
        try:
            as_owner(lambda: os.mkdir("new", dir_fd=closed), (closed, None))
        except PermissionError:
            return
        raise AssertionError

    as_nobody(work, base)
    assert mode_of(base / "closed") == 0o555


def test_the_operation_is_tried_once_where_it_succeeds(base: Path) -> None:
    calls: list[int] = []
    as_owner(lambda: calls.append(1), (0, b"no such place"))
    assert calls == [1]


def test_threads_do_not_close_the_directory_to_each_other(base: Path) -> None:
    rounds = 300

    def work(fd: int) -> None:
        closed = os.open("closed", os.O_PATH, dir_fd=fd)
        sys.setswitchinterval(1e-5)

        def make(thread: int) -> None:
            for number in range(rounds):
                name = f"{thread}-{number}"
                as_owner(lambda name=name: os.mkdir(name, dir_fd=closed), (closed, None))  # type: ignore[misc]

        with ThreadPoolExecutor() as threads:
            list(threads.map(make, range(3)))
        assert len(os.listdir(f"/proc/self/fd/{closed}")) == 2 + 3 * rounds

    as_nobody(work, base)
    assert mode_of(base / "closed") == 0o555


def test_a_mode_that_is_read_meanwhile_is_read_again(base: Path) -> None:
    def work(fd: int) -> None:
        closed = os.open("closed", os.O_PATH, dir_fd=fd)
        wide, read = threading.Event(), threading.Event()

        def make() -> None:
            os.mkdir("new", dir_fd=closed)
            wide.set()
            assert read.wait(DEADLINE)

        assert not may_be_widened(os.stat(closed))
        thread = threading.Thread(target=as_owner, args=(make, (closed, None)))
        thread.start()
        assert wide.wait(DEADLINE)
        st = os.stat(closed)
        assert stat.S_IMODE(st.st_mode) == 0o755
        assert may_be_widened(st)
        read.set()
        assert stat.S_IMODE(settled(lambda: os.stat(closed)).st_mode) == 0o555
        thread.join()

    as_nobody(work, base)


def test_a_change_of_a_mode_waits_and_is_kept(base: Path) -> None:
    def work(fd: int) -> None:
        closed = os.open("closed", os.O_PATH, dir_fd=fd)
        begun = threading.Event()

        def change() -> None:
            begun.set()
            with modes_settled():
                os.chmod(f"/proc/self/fd/{closed}", 0o500)

        thread = threading.Thread(target=change)

        def make() -> None:
            os.mkdir("new", dir_fd=closed)
            thread.start()
            assert begun.wait(DEADLINE)

        as_owner(make, (closed, None))
        thread.join()

    as_nobody(work, base)
    assert mode_of(base / "closed") == 0o500


def test_the_union_shows_no_widened_mode(base: Path) -> None:
    """The kernel would show it for good."""
    for name in ("upper", "work"):
        (base / name).mkdir()
        os.chown(base / name, NOBODY, NOBODY)
    files = 200
    for number in range(files):
        path = base / "closed" / str(number)
        path.touch()
        os.chown(path, NOBODY, NOBODY)

    def work(fd: int) -> None:
        os.fchdir(fd)
        sys.setswitchinterval(1e-5)
        fs = open_union(
            UnionConfig(lowers=(b"lower",), upper=b"upper", work=b"work", volatile=True)
        )
        closed = fs.lookup(ROOT_NODEID, b"closed")
        assert closed is not None
        over, modes = threading.Event(), set()

        def look() -> None:
            while not over.is_set():
                modes.add(stat.S_IMODE(fs.getattr(closed.nodeid).st.st_mode))

        with ThreadPoolExecutor() as threads:
            looking = [threads.submit(look) for _ in range(2)]
            try:
                for number in range(files):
                    file = fs.lookup(closed.nodeid, b"%d" % number)
                    assert file is not None
                    fs.setattr(file.nodeid, SetAttr(mtime_ns=5), None)
            finally:
                over.set()
        for one in looking:
            one.result()
        fs.close()
        assert modes == {0o555}

    # Not beneath the layer itself.
    (base / "lower").mkdir()
    (base / "closed").rename(base / "lower/closed")
    as_nobody(work, base)


@pytest.mark.parametrize("links", [1, 2])
def test_a_copy_of_mode_0_is_found_again(links: int) -> None:
    """Its marks are attributes, which its mode forbids even its owner to read."""
    require_root()
    with tempfile.TemporaryDirectory(prefix="unionfs-test-") as made:
        base = Path(made)
        base.chmod(0o755)
        for name in ("lower/d", "upper", "work", "to"):
            (base / name).mkdir(parents=True)
        for name in ("file", "d/other"):
            (base / "lower" / name).write_text("text")
        if links > 1:
            (base / "lower/link").hardlink_to(base / "lower/file")
        for path in (base, *base.rglob("*")):
            os.chown(path, NOBODY, NOBODY)

        def work(fd: int) -> None:
            os.fchdir(fd)
            config = UnionConfig(lowers=(b"lower",), upper=b"upper", work=b"work")
            fs = open_union(config)
            before = []
            for name in (b"file", b"d"):
                found = fs.lookup(ROOT_NODEID, name)
                assert found is not None
                before.append(found)
                mode = 0 if name == b"file" else 0o300
                fs.setattr(found.nodeid, SetAttr(mode=mode), None)
            fs.close()
            for last in (False, True):
                fs = open_union(config)
                for was in before:
                    name = b"d" if stat.S_ISDIR(was.st.st_mode) else b"file"
                    again = fs.lookup(ROOT_NODEID, name)
                    assert again is not None
                    assert again.st_ino == was.st_ino
                    assert name == b"d" or again.st_nlink == was.st_nlink
                    assert stat.S_IMODE(again.st.st_mode) in (0, 0o300)
                if last:
                    fs.unlink(ROOT_NODEID, b"file")
                    assert fs.lookup(ROOT_NODEID, b"file") is None
                fs.close()

        as_nobody(work, base)
        assert mode_of(base / "upper/d") == 0o300


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("mode", [0, 0o100, 0o200, 0o300, 0o400, 0o600])
def test_a_directory_that_keeps_even_its_owner_out(mode: int, lower: bool) -> None:
    """As on ext4 its owner gives it other attributes, and what it has is there after a chmod.

    Of a lower, whose modes must not change, only the attributes and what its owner may see are.
    """
    require_root()
    with tempfile.TemporaryDirectory(prefix="unionfs-test-") as made:
        _work_in_closed(Path(made), mode, lower=lower)


def _work_in_closed(base: Path, mode: int, *, lower: bool) -> None:
    base.chmod(0o755)
    for name in ("lower", "upper", "work"):
        (base / name).mkdir()
    layer = base / ("lower" if lower else "upper")
    for closed_one in ("d", "other"):
        (layer / closed_one / "sub").mkdir(parents=True)
        (layer / closed_one / "file").write_text("text")
    for path in (base, *base.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    for closed_one in ("d", "other"):
        (layer / closed_one).chmod(mode)

    def work(fd: int) -> None:
        os.fchdir(fd)
        config = UnionConfig(lowers=(b"lower",), upper=b"upper", work=b"work")
        for again in (False, True):
            fs = open_union(config)
            tree = CoreDriver(fs)
            closed = mode | 0o050 * again
            assert stat.S_IMODE(tree.get(b"d").st.st_mode) == closed
            # The kernel has judged the right to search before it looks a name up.
            if not lower:
                assert stat.S_ISREG(tree.get(b"d/file").st.st_mode)
            else:
                assert errno_of(partial(tree.get, b"d/file")) == errno.EACCES
            d = nodeid(tree, b"d")
            for change in (
                SetAttr(atime_ns=1, mtime_ns=2),
                SetAttr(mtime_ns=3),
                SetAttr(mode=mode | 0o050),
            ):
                fs.setattr(d, change, None)
            attr = fs.getattr(d)
            assert (attr.st.st_atime_ns, attr.st.st_mtime_ns) == (1, 3)
            if not lower:
                assert errno_of(partial(tree.rmdir, b"d")) == errno.ENOTEMPTY
                tree.rename(b"d", b"moved", 0)
                tree.rename(b"moved", b"d", 0)
            fs.close()
        fs = open_union(config)
        tree = CoreDriver(fs)
        for name in (b"d", b"other"):
            tree.chmod(name, 0o755)
            if lower:
                assert errno_of(partial(tree.get, name + b"/file")) == errno.EACCES
                continue
            assert sorted(entry.name for entry in tree.listdir(name)) == [b"file", b"sub"]
            tree.unlink(name + b"/file")
            tree.rmdir(name + b"/sub")
            tree.rmdir(name)
        fs.close()

    as_nobody(work, base)
    if lower:
        assert mode_of(base / "lower/d") == mode, "nothing in a lower may change"


@pytest.fixture
def own_layers() -> Iterator[Path]:
    """A lower, an upper and a workdir of the ordinary user, with d/file and e in the lower."""
    require_root()
    with tempfile.TemporaryDirectory(prefix="unionfs-test-") as made:
        base = Path(made)
        base.chmod(0o755)
        for name in ("lower/d", "lower/e", "upper", "work"):
            (base / name).mkdir(parents=True)
        (base / "lower/d/file").write_text("text")
        for path in (base, *base.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        yield base


def _opened(fd: int, **settings: Any) -> CoreDriver:
    os.fchdir(fd)
    config = UnionConfig(lowers=(b"lower",), upper=b"upper", work=b"work", **settings)
    return CoreDriver(open_union(config))


@pytest.mark.parametrize("exchanges", [False, True])
@pytest.mark.parametrize("mode", [0, 0o200, 0o300, 0o500])
def test_a_directory_replaces_one_that_its_owner_may_not_list(
    own_layers: Path, mode: int, exchanges: bool
) -> None:
    """As on ext4, where rename(2) needs no right to the directory that it replaces."""

    def work(fd: int) -> None:
        tree = _opened(fd)
        writable = state(tree).writable
        assert writable is not None
        writable.exchanges = exchanges
        tree.mkdir(b"new", 0o755)
        tree.mkdir(b"empty", mode)
        tree.rename(b"new", b"empty", 0)
        tree.unlink(b"d/file")
        tree.chmod(b"d", mode)
        tree.rename(b"empty", b"d", 0)
        assert stat.S_IMODE(tree.get(b"d").st.st_mode) == 0o755
        assert tree.listdir(b"d") == []
        tree.fs.close()

    as_nobody(work, own_layers)


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize("mode", [0o100, 0o300, 0o555])
def test_a_file_is_restored_beneath_a_directory_that_its_owner_may_not_list_or_change(
    own_layers: Path, mode: int, removed: bool
) -> None:
    def work(fd: int) -> None:
        tree = _opened(fd)
        tree.truncate(b"d/file", 2)
        if removed:
            tree.unlink(b"d/file")
        tree.chmod(b"d", mode)
        assert tree.fs.restore(b"/d/file").changed
        assert tree.read(b"d/file") == b"text"
        assert stat.S_IMODE(tree.get(b"d").st.st_mode) == mode
        tree.fs.close()
        assert os.listdir("work/work") == []

    as_nobody(work, own_layers)


@pytest.mark.parametrize("mode", [0, 0o444])
def test_a_renamed_file_that_its_owner_may_not_write_is_restored(
    own_layers: Path, mode: int
) -> None:
    """Its mark goes, so that it does not show the st_ino of the restored one."""

    def work(fd: int) -> None:
        tree = _opened(fd)
        tree.chmod(b"d/file", mode)
        tree.rename(b"d/file", b"moved", 0)
        tree.fs.restore(b"/d/file")
        for _ in range(2):
            assert tree.lstat(b"moved").ino != tree.lstat(b"d/file").ino
            assert stat.S_IMODE(tree.lstat(b"moved").mode) == mode
            tree.forget_all()
        tree.fs.close()

    as_nobody(work, own_layers)


def test_the_atime_of_a_directory_that_its_owner_may_not_list(own_layers: Path) -> None:
    """Another user may list it."""

    def work(fd: int) -> None:
        tree = _opened(fd, atime=Atime.STRICTATIME)
        tree.chmod(b"d", 0o355)
        assert [entry.name for entry in tree.listdir(b"d")] == [b"file"]
        tree.fs.close()

    as_nobody(work, own_layers)
