"""A keeper's process: it gets ready before it has a container, and none is left without one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from layerstore.errors import StoreError
from mount_tools.container.handshake import CannotStart
from mount_tools.container.keeper_process import check_report
from mount_tools.daemon.report import Died, Failed, Live
from tests.helpers.mounts import DEADLINE, helper_environment

PREPARE = """
import os, signal
from mount_tools.container.keeper_process import RUN, ExecOrder, PreparedKeeper, RunOrder
keeper = PreparedKeeper(RUN)
children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
order = RunOrder("/nowhere", True, "box", "auto", False, None)
"""


def said_by(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + script],
        env=helper_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_one_that_is_not_needed_is_ended() -> None:
    script = """
keeper.cancel()
print(len(children), open(f"/proc/self/task/{os.getpid()}/children").read().split())
"""
    assert said_by(script) == "1 []\n"


def test_one_whose_command_has_ended_ends_too() -> None:
    """It has our stdout until then."""
    assert said_by("print('ended', flush=True)\nos._exit(0)") == "ended\n"


def test_why_it_cannot_run_the_container() -> None:
    script = """
try:
    keeper.keep(order, None, "container box")
except Exception as error:
    print(type(error).__name__, error.status, error)
"""
    assert said_by(script) == "CannotStart 125 there is no store at /nowhere\n"


def test_an_order_of_any_size() -> None:
    script = """
keeper.cancel()
from mount_tools.container.keeper_process import EXEC
keeper = PreparedKeeper(EXEC)
config = {"Cmd": ["x" * 1_000_000, "\\udcff"], "User": "bob"}
try:
    order = ExecOrder("/nosuch", "box", (1 << 23, 0), config, False, (24, 80))
    keeper.keep(order, None, "the command")
except Exception as error:
    print(type(error).__name__, error)
"""
    assert said_by(script) == "CannotStart the container has ended\n"


def test_an_order_for_another_kind() -> None:
    script = """
try:
    keeper.keep(ExecOrder("/nosuch", "box", 1, {}, False, None), None, "the command")
except TypeError as error:
    keeper.cancel()
    print(error)
"""
    assert said_by(script).endswith("is not for a keeper of mount_tools.container.run\n")


def test_one_that_was_killed() -> None:
    script = """
os.kill(int(children[0]), signal.SIGKILL)
os.waitid(os.P_PID, int(children[0]), os.WEXITED | os.WNOWAIT)
try:
    keeper.keep(order, None, "container box")
except Exception as error:
    print(type(error).__name__, error)
"""
    text = "the process that keeps container box was killed by signal 9 before its command ran"
    assert said_by(script) == f"StoreError {text}\n"


def test_a_signal_ends_the_wait_for_one_that_hangs() -> None:
    """As in a container with a filesystem that does not answer."""
    script = """
import socket
from mount_tools.container import keeper_process
from mount_tools.container.signals import held
keeper_process.PATIENCE = 0.1
os.kill(int(children[0]), signal.SIGSTOP)
ours, theirs = socket.socketpair()
signal.signal(signal.SIGQUIT, signal.SIG_IGN)
with held():
    os.kill(os.getpid(), signal.SIGQUIT)
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        keeper.keep(order, theirs, "container box")
    except Exception as error:
        print(type(error).__name__, error)
    print(signal.sigwait([signal.SIGTERM]).name)
    ours.close()
    theirs.close()
print(open(f"/proc/self/task/{os.getpid()}/children").read().split())
"""
    text = "StoreError interrupted while container box was being started\nSIGTERM\n[]\n"
    assert said_by(script) == text


def test_what_reports_mean() -> None:
    check_report(Live(), "it")
    with pytest.raises(CannotStart, match="no command") as caught:
        check_report(Failed(127, "no command"), "it")
    assert caught.value.status == 127
    with pytest.raises(StoreError, match="the process that keeps it fell before its command ran"):
        check_report(Died("fell"), "it")
