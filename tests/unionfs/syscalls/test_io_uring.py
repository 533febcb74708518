"""A ring of commands, without FUSE: on a file that knows no commands."""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounts import require
from tests.helpers.unions import open_fds
from unionfs.syscalls.io_uring import COMMAND_AT, WAKE, Pinned, Ring, entry_of

ENTRIES = 4


@pytest.fixture
def ring() -> Iterator[Ring]:
    """A ring that this thread uses."""
    try:
        made = Ring(ENTRIES)
    except OSError as error:
        require(False, f"this kernel or user has no io_uring as we need it: {error}")
        raise
    made.enable()
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A regular file, which answers EOPNOTSUPP to each command."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def completion(ring: Ring, entry: bytearray | None = None) -> tuple[int, int]:
    """Return the next completion; a signal makes `exchange` return None."""
    found = ring.exchange(entry)
    while found is None:
        found = ring.exchange(None)
    return found


def test_the_entry_of_a_command_is_the_one_of_the_kernel() -> None:
    entry = entry_of(7, 2, 99, b"payload", 4096, 3)
    assert len(entry) == 128
    opcode, fd, operation, address, count = struct.unpack_from("=B3xiI4xQI", entry)
    assert (opcode, fd, operation, address, count) == (46, 7, 2, 4096, 3)
    assert struct.unpack_from("=Q", entry, 32) == (99,)
    assert entry[COMMAND_AT:].rstrip(b"\0") == b"payload"


def test_each_command_completes_with_its_own_user_data(ring: Ring, file: int) -> None:
    """More commands than entries, so both rings wrap around."""
    for number in range(3 * ENTRIES):
        user_data, result = completion(ring, entry_of(file, 1, number, b""))
        assert (user_data, result) == (number, -errno.EOPNOTSUPP)


def test_queued_commands_are_sent_together(ring: Ring, file: int) -> None:
    for number in (1, 2):
        ring.command(file, 1, number, b"")
    answers = {completion(ring) for _ in range(2)}
    assert answers == {(1, -errno.EOPNOTSUPP), (2, -errno.EOPNOTSUPP)}


def test_another_thread_wakes_the_ring_each_time(ring: Ring) -> None:
    for _ in range(3):
        waker = threading.Thread(target=ring.wake)
        waker.start()
        assert completion(ring) == (WAKE, 8)
        waker.join()


@pytest.mark.usefixtures("ring")
def test_a_closed_ring_leaves_no_descriptor() -> None:
    before = open_fds()
    other = Ring(ENTRIES)
    assert open_fds() > before
    other.close()
    assert open_fds() == before


@pytest.mark.usefixtures("ring")
def test_a_ring_without_entries_is_refused() -> None:
    before = open_fds()
    with pytest.raises(OSError) as caught:
        Ring(0)
    assert caught.value.errno == errno.EINVAL
    assert open_fds() == before


def test_a_pinned_buffer_stays_where_it_is() -> None:
    buffer = bytearray(b"content")
    pinned = Pinned(buffer)
    assert pinned.address
    with pytest.raises(BufferError):
        buffer.extend(bytes(1 << 20))
    del pinned
    buffer.extend(b"!")
    assert buffer == b"content!"
