"""Signals that end a command."""

from __future__ import annotations

import os
import signal

import pytest

from mount_tools.cli.ending import ended_by_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_they_are_interrupts_while_the_block_runs(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), ended_by_signals():
        os.kill(os.getpid(), number)
        signal.sigtimedwait([], 10)
    assert signal.getsignal(number) is before


def test_what_is_undone_is_not_interrupted_by_one_more() -> None:
    """timeout(1) signals the command, and then its process group with the command in it."""
    undone = []
    with pytest.raises(KeyboardInterrupt), ended_by_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 10)
        finally:
            for number in (signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
                signal.pthread_sigmask(signal.SIG_BLOCK, [])  # a handler would run here
                undone.append(number)
    assert undone == [signal.SIGTERM, signal.SIGHUP]


def test_one_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
