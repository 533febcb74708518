"""`pyunion start`: each container for itself, and what cannot be started is named."""

from __future__ import annotations

from tests.helpers.containers import Containers
from tests.helpers.mounts import DEADLINE


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
