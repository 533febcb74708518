"""A command that was started: what is passed on to it, and how it is told that it was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from mount_tools.container.process import CannotStart
from mount_tools.container.started import raise_reported
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


def test_a_report_is_why_it_does_not_run() -> None:
    for told in (b"", b"127 exec: \xff: not found"):
        result, report = os.pipe()
        os.write(report, told)
        os.close(report)
        try:
            if not told:
                raise_reported(result)
                continue
            with pytest.raises(CannotStart, match="exec: \udcff: not found") as caught:
                raise_reported(result)
            assert caught.value.status == 127
        finally:
            os.close(result)
