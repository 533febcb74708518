"""mount.pyunion as engines call it, with a helper and without one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mount_tools.helper.entry import is_an_engines
from tests.helpers.mounts import helper_environment


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-o", "lowerdir=a", "/m"], True),
        (["-olowerdir=a", "m", "-o", "ro"], True),
        (["/m", "-o", "-x"], True),
        (["spec", "/m", "-o", "lowerdir=a"], False),
        (["-o", "lowerdir=a", "-f", "/m"], False),
        (["--options", "lowerdir=a", "/m"], False),
        (["--help"], False),
        (["-o", "/m"], False),
        ([], False),
    ],
)
def test_which_command_lines_are_those_of_engines(words: list[str], expected: bool) -> None:
    assert is_an_engines(words) is expected


@pytest.mark.parametrize(
    ("said", "status", "text"),
    [
        (b"", 2, "mount.pyunion: the daemon ended without a report before the mount was live"),
        (b"\1\0\0\0\2\x20\2\0no", 32, "mount.pyunion: no"),
        (None, 8, "mount.pyunion: interrupted"),
        (b"\1\0\0\0", 0, ""),
    ],
)
def test_what_a_daemon_reports_is_how_the_command_ends(
    said: bytes | None, status: int, text: str
) -> None:
    """Without a message it has died, whatever killed it."""
    script = f"from mount_tools.helper.main import end_with; end_with({said!r})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=helper_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert done.stderr.startswith(text) if text else not done.stderr
