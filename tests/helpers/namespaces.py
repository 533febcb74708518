"""Processes in PID namespaces of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.helpers import children
from tests.helpers.mounts import require_root, wait_until
from unionfs.syscalls.namespaces import CLONE_NEWPID, setns, unshare


@contextmanager
def ending_init() -> Iterator[tuple[int, int]]:
    """Yield the first process of a PID namespace, which is ending and not a zombie yet.

    It waits for the second process that is yielded, a zombie that its parent, which is outside
    of the namespace, leaves as it is.  Its own parent is of this machine.  A container ends like
    this while the keeper of an `exec` does not wait for its command.
    """
    require_root()
    told, tell = os.pipe()

    def make_init() -> None:
        unshare(CLONE_NEWPID)
        os.write(tell, b"%d\n" % children.spawn(signal.pause))

    children.run(make_init)
    init = int(_line(told))

    def add_process() -> None:
        namespace = os.open(f"/proc/{init}/ns/pid", os.O_RDONLY)
        setns(namespace, CLONE_NEWPID)
        os.write(tell, b"%d\n" % children.spawn(signal.pause))
        signal.pause()

    keeper = children.spawn(add_process)
    left = int(_line(told))
    try:
        os.kill(init, signal.SIGKILL)
        wait_until(lambda: not has_namespaces(init), "the first process to end")
        yield init, left
    finally:
        os.kill(keeper, signal.SIGKILL)
        children.wait(keeper)
        for fd in (told, tell):
            os.close(fd)


def has_namespaces(pid: int) -> bool:
    """Tell whether a process has namespaces still, as it has until it ends."""
    try:
        os.readlink(f"/proc/{pid}/ns/mnt")
    except FileNotFoundError:
        return False
    return True


def _line(fd: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(fd, 1)
    return line
