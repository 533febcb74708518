"""Where a reader runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from tests.helpers.mounts import wait_until
from tests.unionfs.transports.readers import new_reader
from unionfs.transports.reader import FIRST, MOST
from unionfs.wire.abi import Opcode

T = TypeVar("T")


def in_thread(action: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(action).result()


@pytest.fixture
def client() -> Iterator[int]:
    """The id of a thread that stays on the last CPU."""
    stop, ids = threading.Event(), []

    def stay() -> None:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        ids.append(threading.get_native_id())
        stop.wait()

    thread = threading.Thread(target=stay)
    thread.start()
    wait_until(lambda: bool(ids), "the thread to run")
    yield ids[0]
    stop.set()
    thread.join()


@pytest.mark.usefixtures("idle")
def test_a_reader_follows_its_only_client(client: int) -> None:
    def follow() -> list[set[int]]:
        reader, seen = new_reader(), []
        everywhere = os.sched_getaffinity(0)
        reader.change_client(client)
        assert reader.left == FIRST
        for opcode in (Opcode.LOOKUP, Opcode.READ, Opcode.LOOKUP):
            reader.request.opcode = opcode
            reader.look()
            seen.append(os.sched_getaffinity(0))
        for number in range(1000):
            reader.change_client(number)
        seen.append(os.sched_getaffinity(0))
        reader.close()
        return [everywhere, *seen]

    everywhere, *seen = in_thread(follow)
    # Beside it where data moves, and where there are many clients.
    assert seen == [{max(everywhere)}, everywhere, {max(everywhere)}, everywhere]


@pytest.mark.parametrize("opcode", [Opcode.RELEASE, Opcode.RELEASEDIR])
def test_what_names_no_client_is_not_another_client(client: int, opcode: Opcode) -> None:
    reader = new_reader()
    reader.change_client(client)
    reader.left = 100
    reader.request.opcode = opcode
    reader.change_client(0)
    assert (reader.pid, reader.left) == (client, 100)


@pytest.mark.usefixtures("idle")
def test_a_client_that_stays_is_looked_at_less_and_less_often(client: int) -> None:
    def intervals() -> list[int]:
        reader = new_reader()
        reader.request.opcode = Opcode.LOOKUP
        reader.change_client(client)
        found = []
        for _ in range(8):
            reader.look()
            found.append(reader.left)
        reader.close()
        return found

    found = in_thread(intervals)
    assert found == sorted(found)
    assert found[0] < found[-1] == MOST


@pytest.mark.usefixtures("idle")
def test_a_client_that_cannot_be_seen_is_not_followed() -> None:
    def look() -> bool:
        before = os.sched_getaffinity(0)
        reader = new_reader()
        reader.request.opcode = Opcode.LOOKUP
        reader.change_client(0)
        reader.look()
        return os.sched_getaffinity(0) == before

    assert in_thread(look)


def test_only_an_idle_thread_follows(client: int) -> None:
    def look() -> bool:
        before = os.sched_getaffinity(0)
        reader = new_reader()
        reader.request.opcode = Opcode.LOOKUP
        reader.change_client(client)
        reader.look()
        return os.sched_getaffinity(0) == before

    assert in_thread(look)
