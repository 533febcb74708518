"""System calls on real files: what each does, and how it says that it cannot."""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounts import require_root
from tests.helpers.unions import errno_of
from unionfs.syscalls import copyfile, xattr
from unionfs.syscalls.attributes import chmod_at, utimens_at
from unionfs.syscalls.fallocate import fallocate
from unionfs.syscalls.fsids import FsIds
from unionfs.syscalls.handles import filesystem_uuid, handle_at
from unionfs.syscalls.renameat2 import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from unionfs.syscalls.signalfd import signalfd
from unionfs.syscalls.statx import SIZE, statx
from unionfs.syscalls.syncfs import syncfs

HOLE = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_chmod_never_follows_a_link(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").touch(0o644)
    (tmp_path / "link").symlink_to("file")
    chmod_at(folder, b"file", 0o4751)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o4751
    with pytest.raises(OSError):
        chmod_at(folder, b"link", 0o600)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o4751
    assert errno_of(lambda: chmod_at(folder, b"none", 0o600)) == errno.ENOENT


@pytest.mark.parametrize("ns", [0, 1, 999_999_999, 10**18 + 7, -1, -(10**9) - 5])
def test_times_to_the_nanosecond(tmp_path: Path, folder: int, ns: int) -> None:
    (tmp_path / "file").touch()
    utimens_at(folder, b"file", ns, 5)
    utimens_at(folder, b"file", None, ns)
    st = (tmp_path / "file").stat()
    assert (st.st_atime_ns, st.st_mtime_ns) == (ns, ns)
    utimens_at(folder, None, 7, None)
    assert os.fstat(folder).st_atime_ns == 7


def test_times_of_a_link_itself(tmp_path: Path, folder: int) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    utimens_at(folder, b"link", 1, 2)
    assert (tmp_path / "link").lstat().st_mtime_ns == 2


@pytest.mark.parametrize("refused", [None, errno.EXDEV, errno.EOPNOTSUPP])
@pytest.mark.parametrize("size", [0, 1, 3 * HOLE + 5, 2 * HOLE + 1, 4 * HOLE])
def test_holes_stay_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, refused: int | None
) -> None:
    """Whether the kernel copies, or refuses to and bytes are read and written."""
    if refused is not None:

        def fail(*_args: object) -> int:
            raise OSError(refused, "refused")

        monkeypatch.setattr(os, "copy_file_range", fail)
    with (tmp_path / "from").open("wb+") as source, (tmp_path / "to").open("wb+") as target:
        os.pwrite(source.fileno(), b"a" * 5000, 0)
        os.pwrite(source.fileno(), b"b" * 5000, 2 * HOLE)
        os.ftruncate(source.fileno(), 3 * HOLE + 5)
        wanted = (tmp_path / "from").read_bytes()[:size].ljust(size, b"\0")
        copyfile.copy_range(source.fileno(), target.fileno(), size, holes=True)
        assert (tmp_path / "to").read_bytes() == wanted
        assert (tmp_path / "to").stat().st_blocks * 512 < HOLE


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 16) + 1, HOLE + 3])
def test_files_without_holes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "from").write_bytes(data)
    with (tmp_path / "from").open("rb") as source, (tmp_path / "to").open("wb") as target:
        copyfile.copy_range(source.fileno(), target.fileno(), size, holes=False)
    assert (tmp_path / "to").read_bytes() == data


def test_a_reflink_is_whole_or_refused(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"data" * 5000)
    with (tmp_path / "from").open("rb") as source, (tmp_path / "to").open("wb") as target:
        done = copyfile.try_reflink(source.fileno(), target.fileno())
    assert (tmp_path / "to").read_bytes() == (b"data" * 5000 if done else b"")


def test_renameat2(tmp_path: Path, folder: int) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    refused = errno_of(lambda: renameat2(folder, b"a", folder, b"b", RENAME_NOREPLACE))
    assert refused == errno.EEXIST
    renameat2(folder, b"a", folder, b"b", RENAME_EXCHANGE)
    assert (tmp_path / "a").read_text() == "b"


def test_statx_and_syncfs(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").write_text("12345")
    assert len(statx(folder, b"file", 0x7FF)) == SIZE
    assert errno_of(lambda: statx(folder, b"none", 0x7FF)) == errno.ENOENT
    syncfs(folder)
    assert errno_of(lambda: syncfs(-1)) == errno.EBADF


def test_fallocate(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb+") as file:
        fallocate(file.fileno(), 0, 0, 10_000)
        assert os.fstat(file.fileno()).st_size == 10_000
        assert errno_of(lambda: fallocate(file.fileno(), 0, 0, 0)) == errno.EINVAL


def test_handles_name_an_inode_whatever_its_path(tmp_path: Path, folder: int) -> None:
    (tmp_path / "a").touch()
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").touch()
    assert handle_at(folder, b"a") == handle_at(folder, b"b") != handle_at(folder, b"c")
    assert len(filesystem_uuid(folder)) == 16


@pytest.fixture(params=["6.13", "before"])
def xattr_calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the calls of Linux 6.13, if it has them itself, or do without."""
    if request.param == "before":
        monkeypatch.setattr(xattr, "_HAS_CALLS", False)


@pytest.mark.usefixtures("xattr_calls")
def test_xattrs_by_name_never_follow_a_link(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.setxattr(tmp_path / "file", "user.a", b"1")
    assert xattr.list_at(folder, b"file") == ["user.a"]
    assert xattr.get_at(folder, b"file", b"user.a") == b"1"
    assert xattr.get_at(folder, b"file", b"user.b") is None
    assert "user.a" not in xattr.list_at(folder, b"link")
    path_fd = os.open(tmp_path / "file", os.O_PATH)
    assert xattr.list_fd(path_fd) == ["user.a"]
    assert xattr.get_fd(path_fd, b"user.a") == b"1"
    os.close(path_fd)


@pytest.mark.usefixtures("xattr_calls")
def test_xattrs_of_any_length(tmp_path: Path, folder: int) -> None:
    """Long names and values too, and a name that is no UTF-8."""
    values = {f"user.{'long' * 20}{number}": b"v" * 300 * number for number in range(4)}
    name = os.fsencode(tmp_path / "file") + b"\xff"
    open(name, "xb").close()
    assert xattr.list_at(folder, b"file\xff") == []
    for attribute, value in values.items():
        os.setxattr(name, attribute, value)
    assert sorted(xattr.list_at(folder, b"file\xff")) == sorted(values)
    for attribute, value in values.items():
        assert xattr.get_at(folder, b"file\xff", attribute.encode()) == value


@pytest.mark.usefixtures("xattr_calls")
def test_xattrs_that_cannot_be_had(tmp_path: Path, folder: int) -> None:
    assert errno_of(lambda: xattr.list_at(folder, b"none")) == errno.ENOENT
    assert errno_of(lambda: xattr.get_at(folder, b"none", b"user.a")) == errno.ENOENT
    proc = os.open("/proc/self", os.O_RDONLY)
    try:
        assert xattr.list_at(proc, b"status") == []
        assert xattr.get_at(proc, b"status", b"user.a") is None
    finally:
        os.close(proc)


def test_other_ids_are_of_this_thread_and_this_moment(tmp_path: Path) -> None:
    require_root()
    inside, outside = threading.Event(), threading.Event()

    def make() -> None:
        with FsIds(1234, 5678):
            (tmp_path / "theirs").touch()
            inside.set()
            outside.wait(10)

    thread = threading.Thread(target=make)
    thread.start()
    assert inside.wait(10)
    (tmp_path / "ours").touch()
    outside.set()
    thread.join()
    assert (tmp_path / "theirs").stat()[4:6] == (1234, 5678)
    assert (tmp_path / "ours").stat()[4:6] == (0, 0)


def test_signalfd_is_readable_while_a_signal_is_pending() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGRTMAX))
    try:
        for number in (signal.SIGUSR1, signal.SIGRTMAX):
            fd = signalfd((number,))
            try:
                assert select.select((fd,), (), (), 0)[0] == []
                signal.pthread_kill(threading.get_ident(), number)
                assert select.select((fd,), (), ())[0] == [fd]
                assert signal.sigtimedwait((number,), 0) is not None
                assert select.select((fd,), (), (), 0)[0] == []
            finally:
                os.close(fd)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
