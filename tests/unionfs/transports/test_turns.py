"""Which threads read."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from itertools import count

import pytest

from tests.helpers.mounts import wait_until
from tests.unionfs.transports.readers import new_reader
from unionfs.transports import policy as module
from unionfs.transports.reader import Reader
from unionfs.transports.turns import Turns


@pytest.fixture
def turns(idle: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    """Turns that are watched, with a thread that looks often."""
    monkeypatch.setattr(module, "LOOK_S", 0.001)
    turns = Turns()
    watch = threading.Thread(target=turns.watch)
    watch.start()
    yield turns
    turns.end()
    watch.join()


class Waiting:
    """A thread that waits until `reader` may read."""

    def __init__(self, turns: Turns, reader: Reader) -> None:
        self._thread = threading.Thread(target=turns.wait, args=[reader], daemon=True)
        self._thread.start()

    def reads(self) -> bool:
        return not self._thread.is_alive()


def test_one_reads_until_it_waits_for_a_disk(turns: Turns) -> None:
    first, second = new_reader(), new_reader()
    turns.wait(first)
    waiting = Waiting(turns, second)
    assert turns.holder is first
    assert not waiting.reads()
    first.lane.busy, first.request.unique = 1, 2
    wait_until(waiting.reads, "the second thread to read")
    assert turns.many
    assert turns.holder is None


def test_one_is_enough_again_after_a_while(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AWAY_S", 0.0)
    first, second = new_reader(), new_reader()
    turns.wait(first)
    first.lane.busy = 1
    wait_until(lambda: turns.holder is None, "all threads to read")
    wait_until(lambda: not turns.many, "one thread to read")
    turns.wait(second)
    assert turns.holder is second
    assert not Waiting(turns, first).reads()


@pytest.mark.parametrize("leaves_idle", [True, False])
def test_the_policy_while_all_threads_read(
    turns: Turns, monkeypatch: pytest.MonkeyPatch, leaves_idle: bool
) -> None:
    policies: list[str] = []
    monkeypatch.setattr(module, "AWAY_S", 0.0)
    monkeypatch.setattr(module, "become_normal", lambda: policies.append("normal"))
    monkeypatch.setattr(module, "become_idle", lambda: policies.append("idle"))
    turns.policy.leaves_idle = leaves_idle
    reader = new_reader()
    turns.wait(reader)
    reader.lane.busy = 1
    wait_until(lambda: turns.holder is None, "all threads to read")
    wait_until(lambda: not turns.many, "one thread to read")
    assert policies == (["normal", "idle"] if leaves_idle else [])


def keep_reading(turns: Turns, reader: Reader) -> None:
    """Read one request, alone if that is how it is done now."""
    if not turns.many and turns.holder is None:
        turns.wait(reader)
    if turns.asleep:
        turns.rouse()
    reader.request.unique += 1


@pytest.mark.parametrize("late", [True, False])
def test_all_read_while_the_cpus_are_busy(
    turns: Turns, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Whether they are shows in how late the thread that watches is woken."""
    delays = count(0, 10_000_000 if late else 10_000)
    asked: list[int] = []
    policies: list[str] = []

    def run_delay() -> int:
        asked.append(next(delays))
        return asked[-1]

    monkeypatch.setattr(module, "run_delay_ns", run_delay)
    monkeypatch.setattr(module, "become_normal", lambda: policies.append("normal"))
    turns.policy.leaves_idle = True
    reader = new_reader()

    def is_decided() -> bool:
        keep_reading(turns, reader)
        return turns.many or len(asked) > 20

    wait_until(is_decided, "a few looks")
    wait_until(lambda: bool(policies) is late, "the policy")
    assert turns.many is late


def test_an_idle_reader_is_not_watched_until_it_says_so(turns: Turns) -> None:
    first, second = new_reader(), new_reader()
    turns.wait(first)
    wait_until(lambda: turns.asleep, "the watching to end")
    assert not turns.many
    first.lane.busy = 1
    turns.rouse()
    waiting = Waiting(turns, second)
    wait_until(waiting.reads, "the second thread to read")


def test_all_read_with_another_policy(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getscheduler", lambda _: os.SCHED_OTHER)
    for _ in range(2):
        turns.wait(new_reader())
    assert turns.holder is None


def test_all_read_at_the_end(turns: Turns) -> None:
    turns.wait(new_reader())
    waiting = [Waiting(turns, new_reader()) for _ in range(2)]
    turns.end()
    wait_until(lambda: all(one.reads() for one in waiting), "all threads to read")
