"""A command that was started: what is passed on to it,and how one that did not run ended."""

from __future__ import annotations

import subprocess

from mount_tools.container.started import end_started, silence_text


def test_how_a_process_ended_before_its_command_ran() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    status = end_started(process.pid)
    process.returncode = status
    text = "the process of box was killed by signal 9 before its command ran"
    assert silence_text("the process of box", status) == text
    assert silence_text("it", 1 << 8) == "it ended with status 1 before its command ran"
