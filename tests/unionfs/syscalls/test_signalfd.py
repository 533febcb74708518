"""Descriptors that poll(2) waits on for signals."""

from __future__ import annotations

import os
import select
import signal
import threading

from unionfs.syscalls.signalfd import signalfd


def test_a_signalfd_is_readable_while_a_signal_is_pending() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGRTMAX))
    try:
        for number in (signal.SIGUSR1, signal.SIGRTMAX):
            fd = signalfd((number,))
            try:
                assert select.select((fd,), (), (), 0)[0] == []
                signal.pthread_kill(threading.get_ident(), number)
                assert select.select((fd,), (), ())[0] == [fd]
                assert signal.sigtimedwait((number,), 0) is not None
                assert select.select((fd,), (), (), 0)[0] == []
            finally:
                os.close(fd)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_signalfd_is_not_inherited_and_does_not_block() -> None:
    fd = signalfd((signal.SIGUSR1,))
    try:
        assert not os.get_inheritable(fd)
        assert not os.get_blocking(fd)
    finally:
        os.close(fd)
