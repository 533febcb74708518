"""A RUN as the command line and its instruction want it."""

from __future__ import annotations

from tests.helpers.builds import Builds, cached
from tests.helpers.containers import Containers

TEXT = (
    "FROM busy:1\nRUN cat /etc/hosts > /hosts; cat /proc/net/dev > /dev-lines\n"
    "RUN --network=host cat /proc/net/dev > /of-host\n"
)


def test_hosts_and_the_network_of_the_command_line(builds: Builds) -> None:
    given = ("--add-host", "box:10.1.2.3", "--network", "none")
    builds.ok(TEXT, *given)
    names = {line.split(":")[0].strip() for line in builds.content("/dev-lines").splitlines()[2:]}
    assert names == {"lo"}
    assert "10.1.2.3\tbox" in builds.content("/hosts").splitlines()
    assert "box" not in (builds.layers()[0] / "of-host").read_text()
    assert cached(builds.ok(TEXT, *given)) == 2
    # Both are part of the key.
    assert cached(builds.ok(TEXT, "--add-host", "box:10.1.2.4", "--network", "none")) == 0
    lines = builds.ok(TEXT)
    assert cached(lines) == 0
    assert "box" not in builds.content("/hosts")


def test_a_run_is_restricted_as_a_container_is(builds: Builds, containers: Containers) -> None:
    """By the same filter of system calls, if there is one, and without the user's keys."""
    look = "grep -E '^(Seccomp|Cap|NoNew)' /proc/self/status; grep -c _uid_ses /proc/keys || true"
    builds.ok(f"FROM busy:1\nRUN ({look}) > /found 2>&1\n")
    run = containers.ok("run", "--rm", "busy:1", "sh", "-c", f"({look}) 2>&1")
    assert builds.content("/found") == run
