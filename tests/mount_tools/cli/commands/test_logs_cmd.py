"""logs: what containers printed, which part of it, and following one that runs."""

from __future__ import annotations

import re

from tests.helpers.containers import Containers
from tests.helpers.mounts import DEADLINE, wait_until

SCRIPT = "echo one; echo two >&2; echo three; printf four"


def test_what_a_container_printed_stream_by_stream(containers: Containers) -> None:
    containers.ok("run", "-d", "--name", "box", "busy:1", "sh", "-c", SCRIPT)
    assert containers.ok("wait", "box") == "0"
    done = containers("logs", "box")
    assert (done.stdout, done.stderr) == ("one\nthree\nfour", "two\n")
    assert containers("logs", "--tail", "1", "box").stdout == "four"
    assert containers("logs", "-n", "0", "box").stdout == ""
    stamped = containers("logs", "-t", "box").stdout.splitlines()
    pattern = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (one|three|four)"
    assert all(re.fullmatch(pattern, line) for line in stamped) and len(stamped) == 3
    assert containers("logs", "--until", "1h", "box").stdout == ""
    assert containers("logs", "--since", "2000-01-01", "box").stdout == "one\nthree\nfour"
    # A second run is added to it.
    containers.ok("start", "-a", "box")
    assert containers("logs", "box").stdout == "one\nthree\nfour" * 2
    containers.ok("rm", "box")


def test_following_ends_with_the_container(containers: Containers) -> None:
    script = "echo up; read line; echo down"
    containers.ok("run", "-di", "--name", "box", "busy:1", "sh", "-c", script)
    following = containers.start("logs", "-f", "box")
    assert following.stdout is not None
    assert following.stdout.readline() == "up\n"
    containers.ok("kill", "-s", "TERM", "box")
    assert following.wait(DEADLINE) == 0
    assert following.stdout.read() == ""
    containers.ok("rm", "box")


def test_what_is_wrong_is_said(containers: Containers) -> None:
    done = containers("logs", "nobody")
    assert (done.returncode, done.stderr) == (1, "Error: No such container: nobody\n")
    containers.ok("create", "--name", "box", "busy:1", "true")
    for tail in ("all", "0", "9" * 18, "9" * 19, "9" * 5000):
        assert containers.ok("logs", "--tail", tail, "box") == ""
    done = containers("logs", "--tail", "x", "box")
    assert done.returncode == 125 and "a number, or all" in done.stderr
    done = containers("logs", "--since", "x", "box")
    assert done.returncode == 1 and "neither a time" in done.stderr
    containers.ok("rm", "box")


def test_run_rm_in_the_foreground_leaves_nothing(containers: Containers) -> None:
    assert containers.ok("run", "--rm", "busy:1", "echo", "said") == "said"
    wait_until(lambda: not containers.mine(), "every process of the container to end")
    assert containers.ok("ps", "-aq") == ""
    assert not list((containers.store / "containers").iterdir())
