"""Signals are those of the module signal, as plain numbers."""

from __future__ import annotations

import signal as full

from unionfs.light_signal import signal


def test_signals_are_numbers() -> None:
    for name in ("SIGTERM", "SIGUSR1", "SIG_BLOCK", "SIG_DFL"):
        number = getattr(signal, name)
        assert type(number) is int and number == getattr(full, name)


def test_both_modules_have_the_same_handlers_and_mask() -> None:
    assert signal.getsignal(signal.SIGINT) == full.getsignal(full.SIGINT)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
    try:
        assert full.pthread_sigmask(full.SIG_BLOCK, ()) == {*before, signal.SIGUSR1}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
