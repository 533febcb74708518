"""The help of a group says what its commands say of themselves, and imports none of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mount_tools import manual
from tests.helpers.mounts import DEADLINE

PROGRAM = """
import sys
from mount_tools.cli.main import main
assert main(sys.argv[1:]) == 0
print(*(name for name in sys.modules if name.startswith("mount_tools.cli.commands.")))
"""


def test_the_summaries_in_git_are_current() -> None:
    kept = manual.SUMMARIES.read_text(encoding="utf-8")
    assert kept == manual.summaries(), "run `python -m mount_tools.manual man`"


@pytest.mark.parametrize(
    ("words", "imports"),
    [(["--help"], ""), (["image", "--help"], "mount_tools.cli.commands.groups")],
)
def test_no_member_is_imported(words: list[str], imports: str) -> None:
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE)
    *shown, there = done.stdout.splitlines()
    assert "COMMAND --help" in shown[-1]
    assert there == imports
