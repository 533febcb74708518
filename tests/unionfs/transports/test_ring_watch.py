"""When the threads of the rings are not SCHED_IDLE."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest

from tests.helpers.mounts import wait_until
from unionfs.transports import policy as module
from unionfs.transports import ring_watch
from unionfs.transports.ring_watch import RingWatch

# How much longer a thread has waited for a CPU, ns, at each question.
LATE, IN_TIME = 10_000_000, 10_000


class Machine:
    """What the policy is told about the CPUs, and the policies it chose, with their times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.delays = count(0, LATE)
        self.asked = 0
        self.chosen: list[tuple[str, float]] = []
        monkeypatch.setattr(module, "LOOK_S", 0.001)
        monkeypatch.setattr(module, "run_delay_ns", self._run_delay)
        for policy in "idle", "normal":
            monkeypatch.setattr(module, f"become_{policy}", lambda name=policy: self._note(name))

    def _run_delay(self) -> int:
        self.asked += 1
        return next(self.delays)

    def _note(self, policy: str) -> None:
        self.chosen.append((policy, time.monotonic()))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One whose CPUs are busy, and on which the process always has something to do."""
    monkeypatch.setattr(ring_watch, "_RESTING", 0.0)
    return Machine(monkeypatch)


@contextlib.contextmanager
def watched() -> Iterator[RingWatch]:
    watch = RingWatch()
    watch.policy.leaves_idle = True
    thread = threading.Thread(target=watch.watch)
    thread.start()
    yield watch
    watch.end()
    thread.join()


def test_idle_is_left_while_the_cpus_are_busy(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AWAY_S", 0.05)
    with watched():
        wait_until(lambda: len(machine.chosen) == 1, "another policy")
        machine.delays = count(0, IN_TIME)
        wait_until(lambda: len(machine.chosen) == 2, "the policy idle")
        asked = machine.asked
        wait_until(lambda: machine.asked > asked + 4, "some looks")
    (left, at), (back, later) = machine.chosen
    assert (left, back) == ("normal", "idle")
    assert later - at >= 0.05


def test_nothing_is_changed_on_quiet_cpus(machine: Machine) -> None:
    machine.delays = count(0, IN_TIME)
    with watched():
        wait_until(lambda: machine.asked > 10, "some looks")
    assert machine.chosen == []


def test_a_process_at_rest_is_not_watched_until_a_request_comes(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_watch, "_RESTING", 1e9)
    machine.delays = count(0, IN_TIME)
    with watched() as watch:
        wait_until(lambda: watch.asleep, "the watching to end")
        asked = machine.asked
        watch.rouse()
        wait_until(lambda: machine.asked > asked, "a look")
