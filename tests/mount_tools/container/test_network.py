"""A network namespace of a container's own has loopback, and that is up."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers.mounts import DEADLINE, helper_environment, require_root

SCRIPT = """
import socket
from mount_tools.container.network import loopback_up
from unionfs.syscalls.namespaces import CLONE_NEWNET, unshare
unshare(CLONE_NEWNET)
with socket.socket() as listener:
    loopback_up()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    with socket.create_connection(listener.getsockname(), 5):
        print([name for _, name in socket.if_nameindex()])
"""


def test_loopback_works_and_there_is_nothing_else() -> None:
    require_root()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        env=helper_environment(),
        timeout=DEADLINE,
        check=True,
    )
    assert "lo" in done.stdout and "eth" not in done.stdout
