"""Notices and backing files at /dev/fuse."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from tests.helpers.mounts import require_fuse, require_root
from tests.helpers.unions import errno_of
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
    try:
        backings = DeviceBackings(device)
        with pytest.raises(OSError):
            backings.register(device, writes=writes)
        with pytest.raises(OSError):
            backings.close(1)
    finally:
        os.close(device)
