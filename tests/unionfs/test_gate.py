"""The gate: closing waits for the threads inside; threads that come meanwhile wait."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

import pytest

from tests.helpers.mounts import DEADLINE, wait_until
from unionfs import gate as gate_module
from unionfs.gate import Gate, Lane


def started(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def enter(gate: Gate, lane: Lane) -> None:
    lane.busy = 1
    if gate.closed:
        gate.wait(lane)


def test_a_busy_lane_is_waited_for() -> None:
    gate = Gate()
    lane = gate.lane()
    enter(gate, lane)
    reached = threading.Event()

    def pause() -> None:
        with gate.paused():
            reached.set()

    thread = started(pause)
    wait_until(lambda: gate.closed, "the gate to close")
    assert not reached.is_set()
    lane.busy = 0
    thread.join(10)
    assert reached.is_set() and not gate.closed


def test_a_lane_waits_for_a_closed_gate() -> None:
    gate = Gate()
    lane = gate.lane()
    with gate.paused():
        thread = started(lambda: enter(gate, lane))
        wait_until(lambda: lane.busy == 0, "the lane to step back")
        assert thread.is_alive()
    thread.join(10)
    assert lane.busy == 1


def test_a_pause_waits_for_threads_inside_and_not_for_those_outside() -> None:
    gate = Gate()
    steps = [threading.Event() for _ in range(3)]
    entered = threading.Event()
    done = threading.Event()

    def work() -> None:
        with gate.passing():
            entered.set()
            steps[0].wait(DEADLINE)
            with gate.outside():
                steps[1].set()
                steps[2].wait(DEADLINE)
            assert not gate.closed
        done.set()

    started(work)
    assert entered.wait(DEADLINE)
    steps[0].set()
    steps[1].wait(DEADLINE)
    with gate.paused():
        steps[2].set()
        assert not done.is_set()
    assert done.wait(DEADLINE)
    gate.patient = False  # EBUSY if anybody still counts as inside
    with gate.paused():
        assert gate.closed


def test_outside_is_nothing_to_a_thread_with_a_lane() -> None:
    """It is waited for all the same."""
    gate = Gate()
    lane = gate.lane()
    enter(gate, lane)
    reached = threading.Event()

    def pause() -> None:
        with gate.paused():
            reached.set()

    with gate.outside():
        thread = started(pause)
        wait_until(lambda: gate.closed, "the gate to close")
        assert not reached.is_set()
        lane.busy = 0
        assert reached.wait(DEADLINE)
        thread.join(10)


def test_nobody_waits_long_for_one_who_stays_inside() -> None:
    """The gate opens again, and closes for good as soon as it is empty."""
    gate = Gate()
    slow, quick = gate.lane(), gate.lane()
    enter(gate, slow)
    waited: list[int] = []
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            before = time.monotonic_ns()
            enter(gate, quick)
            waited.append(time.monotonic_ns() - before)
            quick.busy = 0

    thread = started(serve)
    paused = gate.paused()
    pause = started(paused.__enter__)
    wait_until(lambda: max(waited, default=0) > gate_module.PATIENCE_NS // 2, "somebody to wait")
    count = len(waited)
    wait_until(lambda: len(waited) > count, "the gate to open again")
    slow.busy = 0
    pause.join(10)
    assert gate.closed
    paused.__exit__(None, None, None)
    stop.set()
    thread.join(10)


def test_pauses_take_turns() -> None:
    gate = Gate()
    inside: list[int] = []
    together: list[int] = []

    def pause() -> None:
        with gate.paused():
            inside.append(1)
            together.append(len(inside))
            inside.pop()

    for thread in [started(pause) for _ in range(8)]:
        thread.join(10)
    assert together == [1] * 8


@pytest.mark.parametrize("patient", [True, False])
def test_a_request_that_never_ends_ends_only_the_pause(
    patient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All others once waited for it, for good."""
    monkeypatch.setattr(gate_module, "TRIES", 3)
    monkeypatch.setattr(gate_module, "STUCK_NS", 10_000_000)
    gate = Gate()
    gate.patient = patient
    stuck = gate.lane()
    enter(gate, stuck)
    failures: list[OSError] = []

    def pause() -> None:
        try:
            with gate.paused():
                pass
        except OSError as error:
            failures.append(error)

    thread = started(pause)
    thread.join(DEADLINE)
    assert [error.errno for error in failures] == [errno.EBUSY]
    other = gate.lane()
    enter(gate, other)
    assert other.busy == 1
    other.busy = stuck.busy = 0
    with gate.paused():
        assert gate.closed
