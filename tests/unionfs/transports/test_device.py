"""Notices and backing files at /dev/fuse."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers.mounts import require_fuse, require_root
from tests.helpers.unions import errno_of
from unionfs.credentials import Credentials
from unionfs.syscalls import lowered
from unionfs.syscalls.fsids import FsIds
from unionfs.transports.device import DeviceBackings, DeviceCache, DeviceNotifier
from unionfs.types import NodeId

NODEID = NodeId(0x42)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe in place of the device: it keeps each message that is written."""
    ends = os.pipe2(os.O_DIRECT)
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The errno that each write gets from now on, to be set by the test."""
    number = [0]

    def write(_fd: int, _data: bytes) -> int:
        raise OSError(number[0], os.strerror(number[0]))

    monkeypatch.setattr(os, "write", write)
    return number


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little", signed=value < 0)


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def test_each_notice_is_one_message_of_the_kernel(pipe: tuple[int, int]) -> None:
    """Its length, its code in place of an error, the unique 0, then its struct."""
    out, to = pipe
    notifier = DeviceNotifier(to)
    notifier.forget_attributes(NODEID)
    notifier.forget_inode(NODEID)
    notifier.forget_name(NODEID, b"name")
    DeviceCache(to).store(NODEID, b"content")
    assert os.read(out, 4096) == u32(40) + u32(2) + u64(0) + u64(NODEID) + u64(-1) + u64(0)
    assert os.read(out, 4096) == u32(40) + u32(2) + u64(0) + u64(NODEID) + u64(0) + u64(0)
    name = u64(NODEID) + u32(4) + u32(0) + b"name\0"
    assert os.read(out, 4096) == u32(16 + len(name)) + u32(3) + u64(0) + name
    pages = u64(NODEID) + u64(0) + u32(7) + bytes(4) + b"content"
    assert os.read(out, 4096) == u32(16 + len(pages)) + u32(4) + u64(0) + pages


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.ENODEV])
def test_what_the_kernel_does_not_know_needs_no_notice(refusing: list[int], number: int) -> None:
    refusing[0] = number
    notifier = DeviceNotifier(-1)
    notifier.forget_inode(NODEID)
    notifier.forget_name(NODEID, b"name")
    refusing[0] = errno.EINVAL
    assert errno_of(lambda: notifier.forget_inode(NODEID)) == errno.EINVAL


def test_a_store_that_fails_is_no_error_and_a_notice_is(refusing: list[int]) -> None:
    refusing[0] = errno.ENOMEM
    cache = DeviceCache(-1)
    cache.store(NODEID, b"content")
    assert errno_of(lambda: cache.forget_attributes(NODEID)) == errno.ENOMEM


@pytest.mark.parametrize("writes", [False, True])
def test_a_device_without_a_mount_registers_nothing(writes: bool) -> None:
    require_root()
    require_fuse()
    device = os.open("/dev/fuse", os.O_RDWR)

    def refused() -> list[int]:
        backings = DeviceBackings(device)
        return [
            errno_of(lambda: backings.register(device, writes=writes)),
            errno_of(lambda: backings.close(1)),
        ]

    try:
        # In a thread of its own, which loses CAP_FSETID.
        with ThreadPoolExecutor(1) as thread:
            assert all(thread.submit(refused).result())
    finally:
        os.close(device)


@pytest.mark.parametrize("keeps_groups", [False, True])
@pytest.mark.parametrize("bound", [False, True])
def test_what_may_be_written_is_registered_without_fsetid(
    monkeypatch: pytest.MonkeyPatch, keeps_groups: bool, bound: bool
) -> None:
    """Also by a thread that must have it, and its groups, at all other times.

    `bound` is a process without CAP_SETPCAP: a change of fsuid would give CAP_FSETID back.
    """
    require_root()
    lacks: list[bool] = []

    def ioctl(*_: object) -> int:
        lacks.append(not me().keeps_suid())
        return 1

    def me() -> Credentials:
        return Credentials(threading.get_native_id(), os.getegid())

    def register() -> bool:
        backings = DeviceBackings(-1, keeps_groups=keeps_groups)
        backings.register(0, writes=False)
        assert lacks == [False]
        for _ in range(3):
            backings.register(0, writes=True)
        with FsIds(1234, 5678):
            pass
        backings.register(0, writes=True)
        assert lacks == [False, True, True, True, True]
        return me().keeps_suid()

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    if bound:
        monkeypatch.setattr(lowered, "keep_capabilities", lambda: False)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(register).result() is (keeps_groups or bound)
