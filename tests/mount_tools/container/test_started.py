"""A command that was started: what is passed on to it,and how one that did not run ended."""

from __future__ import annotations

import signal
import subprocess
import sys

from mount_tools.container.started import end_started, silence_text
from tests.helpers.mounts import helper_environment
from tests.helpers.processes import ending

SCRIPT = """
import os, signal, sys
from mount_tools.container.signals import begin_afresh, held
from mount_tools.container.started import Started, attend_started
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with held():
    child = os.fork()
    if child == 0:
        begin_afresh()
        os.execvp("sh", ["sh", "-c", sys.argv[1]])
    sys.exit(attend_started(Started(child, child)))
"""


def test_what_we_ignore_is_not_passed_on_and_all_else_is() -> None:
    """As under nohup(1): it means whatever is run."""
    script = (
        "trap 'echo hup' HUP; trap 'echo usr; exit 5' USR1; echo up; while :; do sleep 0.02; done"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, script],
        env=helper_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with ending(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGUSR1)
        assert (process.stdout.read(), process.wait(30)) == ("usr\n", 5)


def test_how_a_process_ended_before_its_command_ran() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    status = end_started(process.pid)
    process.returncode = status
    text = "the process of box was killed by signal 9 before its command ran"
    assert silence_text("the process of box", status) == text
    assert silence_text("it", 1 << 8) == "it ended with status 1 before its command ran"
