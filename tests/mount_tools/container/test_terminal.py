"""The relay between two terminals, of plain processes; cli/test_run_cmd has it with containers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.container.terminal import open_terminal
from tests.helpers.mounts import helper_environment, require
from tests.helpers.processes import ending
from tests.helpers.terminals import Terminal, terminal

# What is run with the relay's other end as its terminal is the script's argument.
RELAY = """
import os, pty, signal, sys
from mount_tools.container.signals import attend, held
from mount_tools.container.terminal import Relay
with held():
    master, slave = pty.openpty()
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.close(master)
        os.login_tty(slave)
        os.execvp("sh", ["sh", "-c", sys.argv[1]])
    with Relay(master) as relay:
        if "fail" in sys.argv:
            raise SystemExit(9)
        status = attend(child, lambda taken: relay.resize(), wait=relay.wait)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@contextmanager
def relaying(script: str, ours: Terminal, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", RELAY, script, *words],
        stdin=ours.program,
        stdout=ours.program,
        stderr=ours.program,
        env=helper_environment(),
    )
    with ending(process):
        yield process


def test_much_is_carried_both_ways() -> None:
    """More than any kernel keeps, to a reader that is slow to begin; and all said at the end."""
    size = 200_000
    script = f"stty raw -echo; echo ready; head -c {size} | cksum; yes end | head -n 20000"
    sum_of_zeros = subprocess.run(
        ["cksum"], input=b"x" * size, stdout=subprocess.PIPE, check=True
    ).stdout
    with terminal() as ours, relaying(script, ours) as process:
        ours.await_text(b"ready\n")
        ours.type(b"x" * size)
        assert ours.await_text(b"\n") == sum_of_zeros
        ours.await_text(b"end\n" * 20000)
        assert process.wait(30) == 0


def test_ours_is_raw_meanwhile_and_as_before_afterwards() -> None:
    with terminal() as ours:
        before = ours.settings()
        with relaying("echo ready; read line; exit 7", ours) as process:
            ours.await_text(b"ready\r\n")
            assert ours.settings() != before
            ours.type(b"\r")
            assert process.wait(30) == 7
        assert ours.settings() == before
        with relaying("sleep 1000", ours, "fail") as process:
            assert process.wait(30) == 9
        assert ours.settings() == before


def test_the_end_of_stdin_is_not_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RELAY, "tty -s && echo said; exit 3"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=helper_environment(),
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, b"said\r\n")


def test_a_command_does_not_wait_for_a_reader_that_went() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RELAY, "yes | head -c 300000; exit 5"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=helper_environment(),
    )
    with ending(process):
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(30) == 5


def test_a_pair_of_a_roots_own_devpts_and_of_nothing_else(tmp_path: Path) -> None:
    require(os.path.exists("/dev/pts/ptmx"), "there is no devpts here")
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        master, slave = open_terminal(root, (12, 34))
    finally:
        os.close(root)
    assert os.ttyname(slave).startswith("/dev/pts/")
    assert os.get_terminal_size(slave) == (34, 12)
    for fd in (master, slave):
        assert not os.get_inheritable(fd)
        os.close(fd)
    (tmp_path / "dev/pts").mkdir(parents=True)
    (tmp_path / "dev/pts/ptmx").touch()
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(StoreError, match="no devpts"):
            open_terminal(root, None)
    finally:
        os.close(root)
