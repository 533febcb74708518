"""A RUN: its own processes, what it sees, and that nothing of it is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore import Store
from mount_tools.build.messages import Broke
from tests.helpers.stages import run_stage, sh


def test_a_command_runs_and_its_status_counts(store: Store) -> None:
    ran = run_stage(store, [sh("echo out; echo err >&2"), sh("exit 7"), sh("echo never")])
    assert ran.output == b"out\nerr\n"
    assert ran.broke == Broke(1, 7, "")


def test_a_command_that_does_not_exist_is_said(store: Store) -> None:
    ran = run_stage(store, [sh("true; no-such-command")])
    assert ran.broke is not None and ran.broke.status == 127
    ran = run_stage(store, [sh("echo", user="nobody-here")])
    assert ran.broke is not None
    assert ran.broke.text == "unable to find user nobody-here: no matching entries in passwd file"


def test_processes_that_a_run_leaves_end_with_it(store: Store) -> None:
    # The next command sees its own processes only: the shell, which is process 1, and ps.
    ran = run_stage(store, [sh("sleep 1000 & sleep 1000 & true"), sh("ps -o pid,comm; true")])
    assert ran.output.split() == [b"PID", b"COMMAND", b"1", b"busybox", b"2", b"ps"], ran.output


def test_stdin_is_empty_and_the_terminal_out_of_reach(store: Store) -> None:
    ran = run_stage(store, [sh("cat; tty; test -e /dev/tty && echo > /dev/tty || echo none")])
    assert ran.output.splitlines()[0] == b"not a tty"
    assert ran.output.splitlines()[-1] == b"none"


def test_without_network_there_is_the_loopback_only(store: Store) -> None:
    ran = run_stage(store, [sh("cat /proc/net/dev", network=False)])
    names = [line.split(b":")[0].strip() for line in ran.output.splitlines()[2:]]
    assert names == [b"lo"]


def test_a_run_holds_no_descriptor_of_ours(store: Store) -> None:
    ran = run_stage(store, [sh("ls /proc/self/fd")])
    assert ran.output.split() == [b"0", b"1", b"2", b"3"]  # the last is the directory itself


@pytest.mark.parametrize("path", ["/proc/1/root", "/proc/1/cwd"])
def test_init_leads_nowhere(store: Store, path: str) -> None:
    ran = run_stage(store, [sh(f"ls {path}/work {path}/var/lib")])
    assert ran.broke is not None, ran.output


def test_its_mounts_are_not_ours(store: Store, tmp_path: Path) -> None:
    run_stage(store, [sh("echo x > /made")])
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert not os.path.exists("/made")
