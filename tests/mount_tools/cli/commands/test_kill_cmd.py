"""kill and restart."""

from __future__ import annotations

import pytest

from tests.helpers.containers import Containers


@pytest.mark.parametrize(
    ("words", "status"), [((), "137"), (("-s", "TERM"), "143"), (("-s", "SIGRTMIN+3"), "165")]
)
def test_the_command_gets_any_signal(
    containers: Containers, words: tuple[str, ...], status: str
) -> None:
    containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
    assert containers.ok("kill", *words, "box") == "box"
    assert containers.ok("wait", "box") == status
    done = containers("kill", "box")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Cannot kill container: box: Container ")
    assert done.stderr.endswith(" is not running\n")
    containers.ok("rm", "box")


def test_no_signal(containers: Containers) -> None:
    done = containers("kill", "-s", "NOSUCH", "box")
    assert done.returncode == 1 and "Invalid signal: NOSUCH" in done.stderr


def test_restart_stops_what_runs_and_starts_it_again(containers: Containers) -> None:
    containers.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", "echo up; sleep 1000")
    first = containers.ok("inspect", "-f", "{{.State.Pid}}", "box")
    assert containers.ok("restart", "-t", "0", "box") == "box"
    second = containers.ok("inspect", "-f", "{{.State.Pid}}", "box")
    assert second not in (first, "0")
    containers.ok("kill", "box")
    assert containers.ok("restart", "box") == "box"
    assert "Up" in containers.ok("ps")
    assert containers.ok("logs", "box") == "up\nup\nup"
    containers.ok("rm", "-f", "box")
    done = containers("restart", "nobody")
    assert (done.returncode, done.stderr) == (1, "Error: No such container: nobody\n")
