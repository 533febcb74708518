"""A RUN as the command line and its instruction want it."""

from __future__ import annotations

import os

from tests.helpers.builds import Builds, cached
from tests.helpers.containers import Containers
from tests.helpers.mounts import require_root

TEXT = (
    "FROM busy:1\nRUN cat /etc/hosts > /hosts; cat /proc/net/dev > /dev-lines\n"
    "RUN --network=host cat /proc/net/dev > /of-host\n"
)


def test_hosts_and_the_network_of_the_command_line(builds: Builds) -> None:
    given = ("--add-host", "box:10.1.2.3", "--network", "none")
    builds.ok(TEXT, *given)
    # A RUN of a stranger, a trigger of its base image, cannot choose another network.
    for file in ("/dev-lines", "/of-host"):
        lines = builds.content(file).splitlines()[2:]
        assert {line.split(":")[0].strip() for line in lines} == {"lo"}, file
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


def test_security_options_and_limits_of_the_command_line(builds: Builds) -> None:
    text = "FROM busy:1\nRUN (grep -E '^(Seccomp|NoNew)' /proc/self/status; ulimit -n) > /found\n"
    given = ("--security-opt", "no-new-privileges", "--ulimit", "nofile=77:78")
    builds.ok(text, *given, "--security-opt", "seccomp=unconfined")
    assert builds.content("/found").split() == [
        "NoNewPrivs:", "1", "Seccomp:", "0", "Seccomp_filters:", "0", "77",
    ]  # fmt: skip
    # They are part of the key.
    assert cached(builds.ok(text, *given)) == 0
    assert builds.content("/found").split()[-1] == "77"


def test_capabilities_of_the_command_line(builds: Builds) -> None:
    require_root()
    text = "FROM busy:1\nRUN mknod /null c 1 3\n"
    builds.fails(text)
    builds.ok(text, "--cap-add", "MKNOD")
    assert (builds.layers()[0] / "null").stat().st_rdev == os.makedev(1, 3)


def test_a_run_has_the_name_of_its_host_in_its_environment(builds: Builds) -> None:
    look = 'echo "$HOSTNAME $(hostname)"'
    builds.ok(f"FROM busy:1\nRUN {look} > /found\nENV HOSTNAME=own\nRUN {look} > /own\n")
    name, shown = builds.content("/found").split()
    assert name == shown != ""
    assert builds.content("/own") == f"own {shown}"


def test_no_run_has_the_null_device_of_the_machine(builds: Builds) -> None:
    """Root could change its mode and its owner."""
    look = "busybox stat -L -c %d:%i /proc/self/fd/0 /proc/keys"
    builds.ok(f"FROM busy:1\nRUN {look} > /found\n")
    ours = os.stat("/dev/null")
    assert f"{ours.st_dev}:{ours.st_ino}" not in builds.content("/found").splitlines()
