"""A daemon does not touch descriptors that objects from before its fork think they own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mount_tools.daemon.after_fork import close_all_but, release_stdio
from tests.helpers import children
from tests.helpers.mounts import DEADLINE, helper_environment

# The body of `serve` opens files, which get the numbers that were closed.
SCRIPT = """
import gc, logging, os, sys
from mount_tools.daemon import log
from mount_tools.daemon.detach import Outcome, run_detached
from unionfs.core.layer import Fd
from unionfs.light_logging import Logger
gc.disable()
logging.basicConfig(filename=sys.argv[1], level=logging.INFO)
logging.getLogger("other").addHandler(logging.FileHandler(sys.argv[1]))
log.set_up(foreground=False, debug=False, file=sys.argv[3])
garbage = [[Fd(os.open("/", os.O_RDONLY))] for _ in range(9)]
for one in garbage:
    one.append(one)
del one, garbage
def serve(live):
    fds = [os.open(sys.argv[2], os.O_RDWR | os.O_CREAT | os.O_APPEND) for _ in range(16)]
    gc.collect()
    for name in (None, "other", "another"):
        logging.getLogger(name).warning("from the daemon")
        Logger(str(name)).info("from the daemon")
    return Outcome(1, str(sum(os.fstat(fd).st_size for fd in fds)))
print(run_detached(serve).message)
logging.warning("from the caller")
"""


def test_neither_garbage_nor_log_handlers_use_them(tmp_path: Path) -> None:
    """Once a daemon's log was found at the beginning of the store's database."""
    log, other, own = (tmp_path / name for name in ("log", "other", "own"))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, log, other, own],
        env=helper_environment(),
        capture_output=True,
        timeout=DEADLINE,
    )
    assert done.stdout == b"0\n", done
    assert other.read_bytes() == own.read_bytes() == b""
    assert log.read_text() == "WARNING:root:from the caller\n"


def test_close_all_but_keeps_what_is_named() -> None:
    first, second = os.pipe()

    def child() -> None:
        close_all_but(second)
        os.fstat(second)
        # The listing itself has the number 3.
        assert {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, second} <= {3}

    try:
        children.run(child)
    finally:
        os.close(first)
        os.close(second)


def test_release_stdio_gives_up_the_three_descriptors() -> None:
    def child() -> None:
        release_stdio()
        assert [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)] == [os.devnull] * 3

    def child_without_stdio() -> None:
        os.closerange(0, 3)
        child()

    children.run(child)
    children.run(child_without_stdio)
