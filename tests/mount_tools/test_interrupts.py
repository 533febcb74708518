"""Ctrl-C at any time of a command: it ends at once, with 130 or by the signal, and says nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mount_tools.interrupts import Interruptible
from tests.helpers.mounts import DEADLINE, REPOSITORY

# Python imports this before the program.  It is Ctrl-C where the program imports `AT`.
_STRIKES = """
import os, sys

class Strikes:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), 2)
        return None

sys.meta_path.insert(0, Strikes())
"""
_MOUNT = ("mount.pyunion", "-o", "lowerdir=/nonexistent", "/nonexistent")


def _interrupted(tmp_path: Path, at: str, program: str, *words: str) -> tuple[int, str]:
    """Return how a program ends that is interrupted when it imports `at`, and what it says."""
    (tmp_path / "sitecustomize.py").write_text(_STRIKES)
    done = subprocess.run(
        [sys.executable, REPOSITORY / "bin" / program, *words],
        env={
            **os.environ,
            "AT": at,
            "PYTHONPATH": f"{tmp_path}:{REPOSITORY}",
            "PYUNION_ROOT": str(tmp_path / "root"),
            "XDG_RUNTIME_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("at", "command"),
    [
        ("mount_tools", ("pyunion", "version")),
        ("mount_tools.pyunion", ("pyunion", "version")),
        ("mount_tools.cli.main", ("pyunion", "version")),
        ("mount_tools.cli.commands.info_cmd", ("pyunion", "version")),
        ("mount_tools.leave", ("pyunion", "version")),
        ("mount_tools.container.keeper_process", ("pyunion", "run", "none", "true")),
        ("mount_tools.cli.apart", ("pyunion", "cp", "a", "b:c")),
        ("mount_tools", _MOUNT),
        ("mount_tools.helper.entry", _MOUNT),
        ("mount_tools.helper.main", _MOUNT),
        ("mount_tools.mount.point", _MOUNT),
        ("mount_tools.leave", _MOUNT),
    ],
)
def test_a_command_is_interrupted_without_a_traceback(
    tmp_path: Path, at: str, command: tuple[str, ...]
) -> None:
    status, said = _interrupted(tmp_path, at, *command)
    assert status in (130, -signal.SIGINT)
    assert said.strip() in ("", f"{command[0]}: interrupted")


def test_one_whose_interrupts_are_ignored_goes_on(tmp_path: Path) -> None:
    """As that of a shell script in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status, said = _interrupted(tmp_path, "mount_tools.cli.main", "pyunion", "version")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (status, said) == (0, "")


def test_a_program_that_embeds_us_keeps_its_own_way() -> None:
    def own(number: int, frame: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGINT, own)
    try:
        with Interruptible():
            assert signal.getsignal(signal.SIGINT) is own
        assert signal.getsignal(signal.SIGINT) is own
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with pytest.raises(KeyboardInterrupt), Interruptible():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
