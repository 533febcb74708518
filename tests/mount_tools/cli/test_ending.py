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
