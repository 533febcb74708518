"""Children that the kernel removes."""

from __future__ import annotations

import os
import signal

from unionfs.syscalls.children import keep_no_zombies


def test_no_child_stays_and_the_signal_has_its_default_action() -> None:
    """The test's process is not changed: a child of it is the parent."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            keep_no_zombies()
            child = os.fork()
            if child == 0:
                os._exit(0)
            gone = False
            try:
                os.waitpid(child, 0)  # waits until there is none
            except ChildProcessError:
                gone = not os.path.exists(f"/proc/{child}")
            fine = gone and signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
            with open("/proc/self/status") as lines:
                ignored = next(line for line in lines if line.startswith("SigIgn"))
            os.write(writing, b"%d %d" % (fine, int(ignored.split()[1], 16) >> 16 & 1))
        finally:
            os._exit(0)
    os.close(writing)
    try:
        assert os.read(reading, 9) == b"1 0"
    finally:
        os.close(reading)
        os.waitpid(parent, 0)
