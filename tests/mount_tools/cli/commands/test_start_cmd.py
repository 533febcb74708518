"""`pyunion start`: each container for itself, and what cannot be started is named."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.helpers.containers import Containers
from tests.helpers.mounts import DEADLINE, run, wait_until


def test_what_cannot_be_started_is_named_at_the_end(containers: Containers) -> None:
    containers.ok("create", "--name", "bad", "busy:1", "nosuch")
    containers.ok("create", "--name", "good", "busy:1", "sleep", "1000")
    done = containers("start", "bad", "good", "nope")
    assert (done.returncode, done.stdout) == (1, "good\n")
    assert done.stderr.splitlines() == [
        'Error: exec: "nosuch": executable file not found in $PATH',
        "Error: No such container: nope",
        "Error: failed to start containers: bad, nope",
    ]
    done = containers("start", "-a", "bad", "good")
    assert "multiple containers at once" in done.stderr
    containers.ok("exec", "-e", "A=1", "good", "sh", "-c", 'test "$A" = 1')
    containers.ok("rm", "-f", "bad", "good")


def test_one_that_runs_is_shown_as_attach_does(containers: Containers) -> None:
    script = "until [ -e /end ]; do echo up; sleep 0.02; done; exit 4"
    containers.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", script)
    shown = containers.start("start", "-a", "box")
    assert shown.stdout is not None
    assert shown.stdout.readline() == "up\n"
    containers.ok("exec", "box", "touch", "/end")
    assert shown.wait(DEADLINE) == 4
    containers.ok("rm", "box")


def test_one_whose_mount_ends_meanwhile_is_started(containers: Containers, tmp_path: Path) -> None:
    point = tmp_path / "point"
    point.mkdir()
    containers.ok("create", "--name", "box", "busy:1", "sh", "-c", "exit 3")
    containers.ok("mount", "box", str(point))
    daemon = int(containers.ok("inspect", "-f", "{{.State.Pid}}", "box"))

    def waits() -> bool:
        for fd in Path(f"/proc/{starting.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                if os.readlink(fd) == "anon_inode:[pidfd]":
                    return True
        return False

    os.kill(daemon, signal.SIGSTOP)
    try:
        run("umount", "-l", point)
        starting = containers.start("start", "box")
        wait_until(waits, "a look at the daemon")
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert starting.wait(DEADLINE) == 0
    assert containers.ok("wait", "box") == "3"
    assert containers.ok("inspect", "-f", "{{.State.Status}}", "box") == "exited"
    containers.ok("rm", "box")
