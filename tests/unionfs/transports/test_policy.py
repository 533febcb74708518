"""For how long a process leaves SCHED_IDLE, and what shows that CPUs are busy."""

from __future__ import annotations

import time

import pytest

from unionfs.transports import policy as module
from unionfs.transports.policy import LOOKS, Delay, Policy


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The policies that were chosen."""
    names: list[str] = []
    for name in "idle", "normal":
        monkeypatch.setattr(module, f"become_{name}", lambda name=name: names.append(name))
    return names


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A list of one: the time, s."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("leaves_idle", [True, False])
def test_only_who_may_leave_idle_does(
    chosen: list[str], clock: list[float], leaves_idle: bool
) -> None:
    policy = Policy()
    policy.leaves_idle = leaves_idle
    policy.leave_idle()
    assert not policy.is_over()
    clock[0] += module.AWAY_S + 0.1
    assert policy.is_over()
    policy.be_idle()
    assert chosen == (["normal", "idle"] if leaves_idle else [])


@pytest.mark.usefixtures("chosen")
def test_sched_idle_is_left_for_twice_as_long_if_that_is_needed_again_soon(
    clock: list[float],
) -> None:
    policy, lasted = Policy(), []
    for pause in (0.1, 0.1, 0.1, 0.1, 10.0, 0.0):
        begin = clock[0]
        policy.leave_idle()
        while not policy.is_over():
            clock[0] += 0.25
        lasted.append(clock[0] - begin)
        clock[0] += pause
    assert lasted == [1.25, 2.25, 4.25, 8.25, 8.25, 1.25]


def test_a_policy_that_cannot_be_changed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be no /proc any more."""

    def fail() -> None:
        raise FileNotFoundError

    for name in "become_normal", "become_idle":
        monkeypatch.setattr(module, name, fail)
    policy = Policy()
    policy.leaves_idle = True
    policy.leave_idle()
    policy.be_idle()


@pytest.mark.parametrize(("late_ns", "busy"), [(400_000, False), (600_000, True)])
def test_busy_cpus_show_in_how_late_a_thread_is_woken(
    monkeypatch: pytest.MonkeyPatch, late_ns: int, busy: bool
) -> None:
    waited = [7_000_000]
    monkeypatch.setattr(module, "run_delay_ns", lambda: waited[0])
    delay = Delay()
    waited[0] += LOOKS * late_ns
    assert delay.shows_busy_cpus() is busy
