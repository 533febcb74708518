"""`pyunion stop`: a command is asked and then killed, a mount is unmounted."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.helpers.containers import Containers
from tests.helpers.mounts import DEADLINE, mount_type, wait_until


def test_stop_asks_with_the_containers_own_signal_and_patience(containers: Containers) -> None:
    script = "trap 'exit 3' USR1; echo up; while :; do sleep 0.02; done"
    flags = ("--stop-signal", "USR1", "--stop-timeout", "30")
    containers.ok("create", "--rm", "--name", "box", *flags, "busy:1", "sh", "-c", script)
    containers.ok("start", "box")
    wait_until(lambda: "up" in containers.ok("logs", "box"), "it to be ready")
    waiting = containers.start("wait", "box")
    containers.ok("stop", "box")
    assert waiting.communicate(timeout=DEADLINE)[0] in ("3\n", "")
    assert containers.ok("ps", "-aq") == ""


def test_a_container_whose_keeper_was_stopped_ends_and_goes(containers: Containers) -> None:
    """The keeper serves the root of the container, and records how it ended."""
    for words, left in (
        (("stop", "-t", "0", "box"), "Exited (137)"),
        (("rm", "-f", "box"), ""),
    ):
        containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
        os.kill(containers.keeper("box"), signal.SIGSTOP)
        assert containers.ok(*words) == "box"
        assert containers.ok("ps", "-a", "--format", "{{.Status}}").startswith(left)
        if left:
            containers.ok("rm", "box")
    assert containers.ok("ps", "-aq") == ""


def test_a_mounted_container_is_unmounted_by_stop_and_by_rm(
    containers: Containers, tmp_path: Path
) -> None:
    containers.ok("create", "--name", "box", "busy:1")
    point = tmp_path / "mnt"
    point.mkdir()
    for words in (("stop", "box"), ("rm", "-f", "box")):
        containers.ok("mount", "box", str(point))
        assert mount_type(point) == "fuse.pyunion"
        assert "(Mounted)" in containers.ok("ps")
        assert containers.ok(*words) == "box"
        assert mount_type(point) is None
