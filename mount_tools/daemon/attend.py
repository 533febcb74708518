"""Attend to a mount that a transport serves from threads of its own: signals and the end.

It needs no trio, whose import takes as long as the rest of a mount.

Threading: the transport serves from its own threads.  One more thread waits for the end
of the connection, and the main thread waits for signals.  In a process that does more than
serve a mount, signals are not the mount's: there the calling thread, which is not the main
one, waits for the end.
"""

from __future__ import annotations

import os
import threading

from mount_tools.daemon.detach import WATCHED
from mount_tools.daemon.signals import SignalHandler
from mount_tools.daemon.transport import Running
from unionfs.light_logging import Logger
from unionfs.light_signal import signal

log = Logger(__name__)


class Attendant:
    """Waits for the end of one connection, from when it is made, and takes signals."""

    def __init__(self, running: Running) -> None:
        """Start to wait.  Blocks the signals in `WATCHED`, which `run` takes.

        Raises RuntimeError if no thread can be started.
        """
        self._running = running
        self._healthy = True
        self._ended = threading.Event()
        self._waking = threading.Lock()
        self._left = False
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        threading.Thread(target=self._wait, name="join", daemon=True).start()

    def run(self, handler: SignalHandler) -> bool:
        """Take signals to the end of the connection; return whether it ended well."""
        while True:
            number = signal.sigwait(WATCHED)
            if self._ended.is_set():
                return self._healthy
            handler.take(number)

    def leave(self) -> None:
        """Do without `run`, since the mount has failed.

        Otherwise the signal that says that the connection has ended would kill the process
        once it takes signals again, before it has said why.
        """
        with self._waking:
            self._left = True
        if signal.SIGUSR1 in signal.sigpending():
            signal.sigwait([signal.SIGUSR1])

    def _wait(self) -> None:
        try:
            self._healthy = joined(self._running)
        finally:
            self._ended.set()
            with self._waking:
                if not self._left:
                    os.kill(os.getpid(), signal.SIGUSR1)


def joined(running: Running) -> bool:
    """Wait for the end of the connection; return whether it ended well."""
    try:
        running.join()
    except Exception:
        log.exception("the transport failed; the mount is dead")
        return False
    return True


def takes_signals() -> bool:
    """Tell whether the mount that the calling thread serves may take the process's signals."""
    return threading.current_thread() is threading.main_thread()
