"""The portable transport, over a plain directory instead of the union."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pyfuse3
import pytest
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    XAttrNameT,
)

from tests.helpers.mounts import (
    DEADLINE,
    REPOSITORY,
    helper_environment,
    mount_type,
    require_fuse,
    require_root,
    run,
    wait_until,
)
from tests.unionfs.transports.mirror import Mirror
from unionfs.transports.pyfuse3_ops import Pyfuse3Ops, carry
from unionfs.types import ROOT_NODEID
from unionfs.vfs import INLINE_WRITE

ROOT = InodeT(ROOT_NODEID)
CALLER = cast(RequestContext, SimpleNamespace(uid=1000, gid=1000, pid=1, umask=0o022))


class Watched(Mirror):
    """A mirror that notes which of its calls ran outside of the main thread."""

    def __init__(self, root: str, *, slow: bool = False, cached: bool = True) -> None:
        super().__init__(root, slow=slow, cached=cached)
        self.in_worker: list[str] = []

    def __getattribute__(self, name: str) -> object:
        value: object = super().__getattribute__(name)
        if name.startswith("_") or not callable(value):
            return value
        call = value

        def noted(*args: object, **keywords: object) -> object:
            if threading.current_thread() is not threading.main_thread():
                self.in_worker.append(name)
            return call(*args, **keywords)

        return noted


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("content")
    (tmp_path / "sub").mkdir()
    return tmp_path


def ops_over(
    fs: Mirror, *, timeout: float | None = None, acl: bool = True, xattrs: bool = True
) -> Pyfuse3Ops:
    return Pyfuse3Ops(fs, timeout=timeout, acl=acl, xattrs=xattrs, on_ready=lambda _: None)


async def nodeid_of(ops: Pyfuse3Ops, name: bytes) -> InodeT:
    return (await ops.lookup(ROOT, FileNameT(name), CALLER)).st_ino


# -- answers --


async def test_the_kernel_is_not_told_to_look_up_dots(directory: Path) -> None:
    """That is FUSE_EXPORT_SUPPORT: it would ask for inodes that it, and we, have forgotten."""
    assert not ops_over(Mirror(str(directory))).supports_dot_lookup


async def test_attributes(directory: Path) -> None:
    os.utime(directory / "file", ns=(1_500_000_000_123_456_789, -1_000_000_001))
    entry = await ops_over(Mirror(str(directory))).lookup(ROOT, FileNameT(b"file"), CALLER)
    real = (directory / "file").stat()
    for name in (
        *("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks"),
        *("st_atime_ns", "st_mtime_ns", "st_ctime_ns"),
    ):
        assert getattr(entry, name) == getattr(real, name), name


async def test_names_and_attributes_are_remembered_for_good(directory: Path) -> None:
    ops = ops_over(Mirror(str(directory)))
    entry = await ops.lookup(ROOT, FileNameT(b"file"), CALLER)
    assert entry.entry_timeout == entry.attr_timeout == 1e9
    absent = await ops.lookup(ROOT, FileNameT(b"absent"), CALLER)
    assert absent.st_ino == 0
    assert absent.entry_timeout == 1e9
    info = await ops.open(entry.st_ino, FlagT(os.O_RDONLY), CALLER)
    assert info.keep_cache
    await ops.release(info.fh)


async def test_what_another_program_was_just_told_is_forgotten(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[InodeT] = []

    def invalidate(inode: InodeT, attr_only: bool = False) -> None:
        assert attr_only
        forgotten.append(inode)

    monkeypatch.setattr(pyfuse3, "invalidate_inode", invalidate)
    ops = ops_over(Mirror(str(directory)))
    file, sub = await nodeid_of(ops, b"file"), await nodeid_of(ops, b"sub")
    other = cast(RequestContext, SimpleNamespace(uid=1000, gid=1000, pid=2, umask=0o022))

    async def forgotten_after(call: Coroutine[object, object, object], *told: InodeT) -> bool:
        forgotten.clear()
        for inode in told:
            await ops.getattr(inode, CALLER)
        await call
        return sorted(forgotten) == sorted(told)

    def name(text: bytes) -> FileNameT:
        return FileNameT(text)

    regular = ModeT(0o100644)
    assert await forgotten_after(ops.mknod(ROOT, name(b"n"), regular, 0, other), ROOT)
    assert await forgotten_after(ops.mkdir(ROOT, name(b"m"), ModeT(0o755), other), ROOT)
    assert await forgotten_after(ops.symlink(ROOT, name(b"s"), name(b"to"), other), ROOT)
    assert await forgotten_after(ops.link(file, sub, name(b"l"), other), sub)
    assert await forgotten_after(ops.unlink(sub, name(b"l"), other), sub)
    assert await nodeid_of(ops, b"file") == file
    assert await forgotten_after(ops.rmdir(ROOT, name(b"m"), other), ROOT)
    flags = FlagT(os.O_RDWR)
    assert await forgotten_after(ops.create(ROOT, name(b"e"), regular, flags, other), ROOT)
    xattr = XAttrNameT(b"user.a")
    assert await forgotten_after(ops.setxattr(file, xattr, b"v", other), file)
    assert await forgotten_after(ops.removexattr(file, xattr, other), file)
    move = ops.rename(ROOT, name(b"file"), sub, name(b"moved"), FlagT(0), other)
    assert await forgotten_after(move, ROOT, sub, file)


async def test_or_as_long_as_is_asked_for(directory: Path) -> None:
    ops = ops_over(Mirror(str(directory)), timeout=2.5)
    entry = await ops.lookup(ROOT, FileNameT(b"file"), CALLER)
    assert entry.entry_timeout == entry.attr_timeout == 2.5
    info = await ops.open(entry.st_ino, FlagT(os.O_RDONLY), CALLER)
    assert not info.keep_cache
    await ops.release(info.fh)
    with pytest.raises(FUSEError) as caught:
        await ops_over(Mirror(str(directory)), timeout=0).lookup(ROOT, FileNameT(b"absent"), CALLER)
    assert caught.value.errno == errno.ENOENT


async def test_the_root_shows_its_own_inode_number(directory: Path) -> None:
    shown = await ops_over(Mirror(str(directory))).getattr(ROOT, CALLER)
    assert shown.st_ino == directory.stat().st_ino


@pytest.mark.parametrize(
    ("name", "code"),
    [(b"broken", errno.EIO), (b"bug", errno.EIO), (b"strange", errno.EIO)],
)
async def test_errors_become_errnos(
    name: bytes, code: int, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(FUSEError) as caught:
        await ops_over(Mirror(str(directory))).lookup(ROOT, FileNameT(name), CALLER)
    assert caught.value.errno == code
    # Only a bug is worth a traceback.
    assert ("Traceback" in caplog.text) == (name == b"bug")


async def test_real_errors_keep_their_errno(directory: Path) -> None:
    with pytest.raises(FUSEError) as caught:
        await ops_over(Mirror(str(directory))).rmdir(ROOT, FileNameT(b"file"), CALLER)
    assert caught.value.errno == errno.ENOTDIR


async def test_without_acls_or_xattrs(directory: Path) -> None:
    acl = XAttrNameT(b"system.posix_acl_access")
    ops = ops_over(Mirror(str(directory)), acl=False)
    file = await nodeid_of(ops, b"file")
    with pytest.raises(FUSEError) as caught:
        await ops.setxattr(file, acl, b"", CALLER)
    assert caught.value.errno == errno.EOPNOTSUPP
    await ops.setxattr(file, XAttrNameT(b"user.x"), b"1", CALLER)
    assert await ops.listxattr(file, CALLER) == [b"user.x"]
    with pytest.raises(FUSEError) as caught:
        await ops_over(Mirror(str(directory)), xattrs=False).listxattr(ROOT, CALLER)
    assert caught.value.errno == errno.ENOSYS
    assert not ops.enable_acl


async def test_trusted_names_are_listed_for_those_with_cap_sys_admin(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mirror, "listxattr", lambda self, nodeid: [b"trusted.a", b"user.b"])
    ops = ops_over(Mirror(str(directory)))
    unseen = cast(RequestContext, SimpleNamespace(uid=0, gid=0, pid=0))
    assert await ops.listxattr(ROOT, unseen) == [b"user.b"]
    require_root()
    ours = cast(RequestContext, SimpleNamespace(uid=0, gid=0, pid=threading.get_native_id()))
    assert await ops.listxattr(ROOT, ours) == [b"trusted.a", b"user.b"]


# -- what runs where --


async def test_quick_calls_run_inline(directory: Path) -> None:
    fs = Watched(str(directory))
    ops = ops_over(fs)
    file = await nodeid_of(ops, b"file")
    info = await ops.open(file, FlagT(os.O_RDWR), CALLER)
    assert await ops.read(info.fh, 0, 100) == b"content"
    assert await ops.write(info.fh, 0, b"C") == 1
    await ops.release(info.fh)
    await ops.rename(ROOT, FileNameT(b"file"), ROOT, FileNameT(b"moved"), FlagT(0), CALLER)
    await ops.setxattr(file, XAttrNameT(b"user.x"), b"1", CALLER)
    assert fs.in_worker == []


async def test_slow_calls_run_in_a_worker(directory: Path) -> None:
    fs = Watched(str(directory), slow=True, cached=False)
    ops = ops_over(fs)
    file = await nodeid_of(ops, b"file")

    info = await ops.open(file, FlagT(os.O_RDWR), CALLER)
    await ops.read(info.fh, 0, 100)
    await ops.write(info.fh, 0, b"x" * (INLINE_WRITE + 1))
    await ops.fsync(info.fh, True)
    await ops.release(info.fh)
    fields = cast(SetattrFields, SimpleNamespace(**dict.fromkeys(FIELDS, False), update_mode=True))
    await ops.setattr(file, EntryAttributes(), fields, None, CALLER)
    await ops.link(file, ROOT, FileNameT(b"link"), CALLER)
    await ops.rename(ROOT, FileNameT(b"file"), ROOT, FileNameT(b"moved"), FlagT(0), CALLER)
    await ops.setxattr(file, XAttrNameT(b"user.x"), b"1", CALLER)
    await ops.removexattr(file, XAttrNameT(b"user.x"), CALLER)
    handle = await ops.opendir(ROOT, CALLER)
    await ops.fsyncdir(handle, False)
    await ops.releasedir(handle)
    expected = ["open", "read", "write", "fsync", "setattr", "link", "rename", "setxattr"]
    assert fs.in_worker == [*expected, "removexattr", "fsyncdir"]
    # What was looked up only to ask about it was given back.
    assert fs.references[file] == 2


FIELDS = ("update_uid", "update_gid", "update_size", "update_atime", "update_mtime")


async def test_writes_that_wait_for_the_disk_run_in_a_worker(directory: Path) -> None:
    fs = Watched(str(directory))
    ops = ops_over(fs)
    file = await nodeid_of(ops, b"file")
    info = await ops.open(file, FlagT(os.O_WRONLY | os.O_DSYNC), CALLER)
    await ops.write(info.fh, 0, b"x")
    assert fs.in_worker == ["write"]
    await ops.release(info.fh)
    again = await ops.open(file, FlagT(os.O_WRONLY), CALLER)
    assert again.fh == info.fh
    await ops.write(again.fh, 0, b"x")
    assert fs.in_worker == ["write"]
    await ops.release(again.fh)


async def test_only_what_is_to_change_is_changed(directory: Path) -> None:
    fs = Mirror(str(directory))
    ops = ops_over(fs)
    file = await nodeid_of(ops, b"file")
    attr = EntryAttributes()
    attr.st_mode = ModeT(0o100640)
    attr.st_size = 3
    fields = cast(
        SetattrFields,
        SimpleNamespace(
            **{**dict.fromkeys(FIELDS, False), "update_mode": True, "update_size": True}
        ),
    )
    answer = await ops.setattr(file, attr, fields, None, CALLER)
    assert (answer.st_mode & 0o7777, answer.st_size) == (0o640, 3)
    assert fs.calls == ["setattr SetAttr(mode=416, size=3, times_now=False)"]


# -- listings --


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, int, int]]:
    """Collect (name, nodeid, cookie) of a listing; the reply holds three entries."""
    collected: list[tuple[bytes, int, int]] = []

    def reply(token: ReaddirToken, name: bytes, entry: EntryAttributes, cookie: int) -> bool:
        if len(collected) == 3:
            return False
        collected.append((name, entry.st_ino, cookie))
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    return collected


async def test_a_listing_counts_what_the_kernel_took(
    directory: Path, replies: list[tuple[bytes, int, int]]
) -> None:
    fs = Mirror(str(directory))
    ops = ops_over(fs)
    handle = await ops.opendir(ROOT, CALLER)
    token = cast(ReaddirToken, None)
    await ops.readdir(handle, 0, token)
    file = (directory / "file").stat().st_ino
    assert [name for name, _, _ in replies] == [b".", b"..", b"file"]
    assert replies[2][1] == file
    # "sub" was looked up, did not fit, and was given back; "." and ".." are never counted.
    assert +fs.references == {file: 1}
    last = replies[-1][2]
    replies.clear()
    await ops.readdir(handle, last, token)
    assert [name for name, _, _ in replies] == [b"sub"]
    replies.clear()
    (directory / "sub").rmdir()
    await ops.readdir(handle, last, token)
    assert replies == []
    await ops.releasedir(handle)
    with pytest.raises(FUSEError):
        await ops.readdir(handle, 0, token)


async def test_a_name_without_an_inode_is_listed_and_not_counted(
    directory: Path, replies: list[tuple[bytes, int, int]]
) -> None:
    (directory / "broken").touch()
    fs = Mirror(str(directory))
    ops = ops_over(fs)
    handle = await ops.opendir(ROOT, CALLER)
    await ops.readdir(handle, 2, cast(ReaddirToken, None))
    assert [(name, ino == ROOT_NODEID) for name, ino, _ in replies] == [
        (b"broken", True),
        (b"file", False),
        (b"sub", False),
    ]
    # The kernel answers such an entry by forgetting the root, which does not count.
    await ops.forget([(ROOT, 1), (InodeT((directory / "file").stat().st_ino), 1)])
    assert fs.references[ROOT_NODEID] == 0
    assert fs.references[(directory / "file").stat().st_ino] == 0
    await ops.releasedir(FileHandleT(handle))


# -- mounted --


@pytest.fixture
def mounted_mirror(tmp_path: Path) -> Iterator[tuple[Path, Path, Callable[[], int]]]:
    """Mount a mirror; yield its directory, its mount point, and what unmounts it."""
    require_root()
    require_fuse()
    source, point = tmp_path / "source", tmp_path / "merged"
    source.mkdir()
    point.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unionfs.transports.mirror", source, point],
        env=helper_environment(),
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
    )

    def unmount() -> int:
        run("umount", point)
        return process.wait(DEADLINE)

    try:
        wait_until(lambda: mount_type(point) is not None, "the mirror to be mounted")
        yield source, point, unmount
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(DEADLINE)
            run("umount", "-l", point, check=False)


def test_mounted_it_carries_everything(
    mounted_mirror: tuple[Path, Path, Callable[[], int]],
) -> None:
    source, point, unmount = mounted_mirror
    (source / "broken").touch()
    (source / "big").write_bytes(os.urandom(3_000_000))
    for number in range(500):
        (source / f"{number:03}").touch()
    assert (point / "big").read_bytes() == (source / "big").read_bytes()
    assert len(os.listdir(point)) == 502
    with pytest.raises(OSError) as caught:
        (point / "broken").stat()
    assert caught.value.errno == errno.EIO
    with pytest.raises(OSError) as caught:
        (point / "bug").stat()
    assert caught.value.errno == errno.EIO
    (point / "new").write_bytes(b"x" * 2_000_000)
    assert (source / "new").stat().st_size == 2_000_000
    os.rename(point / "new", point / "renamed")
    os.link(point / "renamed", point / "linked")
    assert (point / "linked").stat().st_nlink == 2
    os.setxattr(point / "linked", "user.x", b"value")
    assert os.listxattr(point / "linked") == ["user.x"]
    with pytest.raises(FileExistsError):
        os.setxattr(point / "linked", "user.x", b"other", os.XATTR_CREATE)
    os.symlink("target", point / "symlink")
    assert os.readlink(point / "symlink") == "target"
    os.truncate(point / "linked", 5)
    assert (point / "renamed").read_bytes() == b"xxxxx"
    assert os.statvfs(point).f_namemax == 255
    with open(point / "renamed", "rb+") as file:
        os.fsync(file.fileno())
    assert unmount() == 0


def test_the_umask_is_left_to_the_filesystem(
    mounted_mirror: tuple[Path, Path, Callable[[], int]],
) -> None:
    """Only so can a default ACL take its place; see MS_POSIXACL in fuse_mount."""
    source, point, unmount = mounted_mirror
    run("sh", "-c", f"umask 027; mkdir {point}/made; : > {point}/created")
    assert (source / "made").stat().st_mode & 0o7777 == 0o750
    assert (source / "created").stat().st_mode & 0o7777 == 0o640
    assert unmount() == 0


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EIO])
def test_an_aborted_connection_is_an_end_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A read of libfuse can end with ECONNABORTED when the mount goes."""

    async def main(**_limits: int) -> None:
        raise ExceptionGroup("nursery", [ExceptionGroup("tasks", [OSError(number, "read")])])

    monkeypatch.setattr(pyfuse3, "main", main)
    monkeypatch.setattr(pyfuse3, "init", lambda *_: None)
    monkeypatch.setattr(pyfuse3, "close", lambda **_: None)

    async def serve() -> None:
        fs = Mirror(str(tmp_path))
        await carry(fs, -1, timeout=None, acl=True, xattrs=True, on_ready=lambda _: None)

    if number == errno.ECONNABORTED:
        trio.run(serve)
    else:
        with pytest.raises(ExceptionGroup, match="nursery"):
            trio.run(serve)
