"""Waiting for the end of a container whose keeper is killed meanwhile."""

from __future__ import annotations

import os
import signal

from tests.helpers.containers import Containers
from tests.helpers.mounts import DEADLINE

# It says so again and again, so that a viewer that comes later is known to be there.
SCRIPT = "while :; do echo up; sleep 0.05; done"


def test_a_follower_sees_the_end_although_the_keeper_is_killed(containers: Containers) -> None:
    containers.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", SCRIPT)
    waiting = containers.start("wait", "box")
    following = containers.start("logs", "-f", "box")
    attached = containers.start("attach", "box")
    assert following.stdout is not None and waiting.stdout is not None
    assert attached.stdout is not None
    for viewer in (following, attached):
        assert viewer.stdout is not None
        assert viewer.stdout.readline() == "up\n"
    os.kill(containers.keeper("box"), signal.SIGKILL)
    assert waiting.wait(DEADLINE) == 0
    assert waiting.stdout.read() == "137\n"
    assert following.wait(DEADLINE) == 0
    assert attached.wait(DEADLINE) == 137
    containers.ok("rm", "box")
