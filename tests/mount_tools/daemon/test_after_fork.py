"""A daemon leaves the descriptors alone that objects from before its fork think they own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.mounts import helper_environment

# The body of `serve` opens files, which get the numbers that were closed.
SCRIPT = """
import gc, logging, os, sys
from mount_tools.daemon.detach import Outcome, run_detached
from unionfs.core.layer import Fd
gc.disable()
logging.basicConfig(filename=sys.argv[1], level=logging.INFO)
logging.getLogger("other").addHandler(logging.FileHandler(sys.argv[1]))
garbage = [[Fd(os.open("/", os.O_RDONLY))] for _ in range(9)]
for one in garbage:
    one.append(one)
del one, garbage
def serve(live):
    fds = [os.open(sys.argv[2], os.O_RDWR | os.O_CREAT | os.O_APPEND) for _ in range(16)]
    gc.collect()
    for name in (None, "other", "another"):
        logging.getLogger(name).warning("from the daemon")
    return Outcome(0, str(sum(os.fstat(fd).st_size for fd in fds)))
print(run_detached(serve).message)
logging.warning("from the caller")
"""


def test_neither_garbage_nor_log_handlers_use_them(tmp_path: Path) -> None:
    """Once a daemon's log was found at the beginning of the store's database."""
    log, other = tmp_path / "log", tmp_path / "other"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, log, other],
        env=helper_environment(),
        capture_output=True,
        timeout=20,
    )
    assert done.stdout == b"0\n", done
    assert other.read_bytes() == b""
    assert log.read_text() == "WARNING:root:from the caller\n"
