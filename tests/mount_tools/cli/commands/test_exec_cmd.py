"""`pyunion exec`: more commands in a real container, until it is stopped."""

from __future__ import annotations

from tests.helpers.containers import Containers


def test_start_exec_commit_stop(containers: Containers) -> None:
    identity = containers.ok("run", "-d", "--name", "bg", "busy:1", "sleep", "1000")
    assert len(identity) == 64
    assert containers("start", "bg").returncode == 0
    containers.ok("exec", "bg", "sh", "-c", "echo made > /new")
    assert containers("exec", "bg", "sh", "-c", "exit 3").returncode == 3
    assert containers("exec", "bg", "nosuch").returncode == 127
    assert containers("rm", "bg").returncode == 1
    containers.ok("commit", "bg", "busy:2")
    assert containers.ok("exec", "bg", "cat", "/new") == "made"
    containers.ok("stop", "-t", "5", "bg")
    assert "Exited (143)" in containers.ok("ps", "-a")
    late = containers("exec", "bg", "ls")
    assert late.returncode == 1
    assert late.stderr.endswith(" is not running\n")
    assert containers.ok("run", "--rm", "busy:2", "cat", "/new") == "made"
    containers.ok("start", "bg")
    containers.ok("rm", "-f", "bg")
    assert containers.ok("ps", "-aq") == ""


def test_a_working_directory_that_is_missing_is_not_made(containers: Containers) -> None:
    """As in docker: a misspelt one is an error, and leaves nothing in the container."""
    containers.ok("run", "-d", "--name", "box", "-w", "/work", "busy:1", "sleep", "1000")
    assert containers.ok("exec", "box", "sh", "-c", "pwd") == "/work"
    before = containers.ok("diff", "box")
    done = containers("exec", "-w", "/wrok", "box", "sh", "-c", "pwd")
    assert (done.returncode, done.stdout) == (125, "")
    assert "the working directory /wrok cannot be used: No such file" in done.stderr
    assert containers.ok("diff", "box") == before
    assert containers.ok("ps", "--format", "{{.Networks}}") == "host"
    containers.ok("rm", "-f", "box")
