"""A command that is done by a child, which the command can leave behind.

What reads or writes the files of a container that runs waits for the process that serves them.  If
that was stopped, or hangs, nothing ends such a wait, not even SIGKILL, once it has the request.
The command itself touches no such file: so Ctrl-C and SIGTERM end it.

Decided here and only here: how long a command waits for its child after such a signal.

Threading: one thread, since it forks.

Source: Linux fs/fuse/dev.c:request_wait_answer().
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from mount_tools.container.signals import is_typed
from mount_tools.leave import exit_code, leave
from unionfs.syscalls.namespaces import die_with_parent
from unionfs.syscalls.signalfd import signalfd

PATIENCE = 5.0  # seconds; a container that was mounted for the command takes 2 to unmount
_ENDING = (signal.SIGINT, signal.SIGTERM)


def in_a_child(work: Callable[[], int]) -> int:
    """Do `work` in a child; return the exit status, that of `work` unless a signal ends it."""
    ending = [one for one in _ENDING if signal.getsignal(one) != signal.SIG_IGN]
    # Of a child whose end is ignored the status is lost.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        die_with_parent(signal.SIGTERM)
        leave(work())
    pidfd, signals = os.pidfd_open(child), signalfd(ending)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(signals, select.POLLIN)
    while all(fd != pidfd for fd, _ in poll.poll()):
        taken = signal.sigtimedwait(ending, 0)
        if taken is None:
            continue
        if not is_typed(taken):  # a terminal has told the child too
            os.kill(child, taken.si_signo)
        poll.unregister(signals)
        if not poll.poll(PATIENCE * 1000):
            said = "interrupted: the files of the container do not answer, and are not waited for"
            with suppress(OSError):
                print(f"Error: {said}", file=sys.stderr, flush=True)
            return 128 + taken.si_signo
    return exit_code(os.waitpid(child, 0)[1])
