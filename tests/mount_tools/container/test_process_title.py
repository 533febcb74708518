"""The name that ps(1) shows, in place of a command line of the host."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers.mounts import DEADLINE, helper_environment

SCRIPT = """
import sys
from pathlib import Path
from mount_tools.container.process_title import set_process_title
set_process_title(sys.argv[1])
print(Path("/proc/self/comm").read_text().rstrip())
print(repr(Path("/proc/self/cmdline").read_bytes()))
"""


@pytest.mark.parametrize(
    ("title", "comm"), [("short", "short"), ("a title of many words", "a title of many")]
)
def test_a_title_is_all_that_is_shown(title: str, comm: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, title, "--secret=of the host"],
        env=helper_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert done.stdout.splitlines() == [comm, repr(title.encode() + b"\0")]


def test_a_title_that_has_no_room_changes_only_the_name() -> None:
    done = subprocess.run(
        [sys.executable, "-"],
        input=SCRIPT.replace("sys.argv[1]", repr("x" * 500)),
        env=helper_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    before = b"".join(os.fsencode(word) + b"\0" for word in (sys.executable, "-"))
    assert done.stdout.splitlines() == ["x" * 15, repr(before)]


def test_a_title_can_be_cut() -> None:
    script = SCRIPT.replace("sys.argv[1]", repr("x" * 500) + ", name='made', cut=True")
    done = subprocess.run(
        [sys.executable, "-"],
        input=script,
        env=helper_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    room = len(os.fsencode(sys.executable)) + len(b"\0-\0")
    assert done.stdout.splitlines() == ["made", repr(b"x" * (room - 2) + b"\0")]


def test_an_environment_can_be_forgotten() -> None:
    script = (
        "import os; from pathlib import Path\n"
        "from mount_tools.container.process_title import forget_environment\n"
        "before = Path('/proc/self/environ').read_bytes()\n"
        "forget_environment()\n"
        "after = Path('/proc/self/environ').read_bytes()\n"
        "print(b'SECRET' in before, after.strip(b'\\0'), dict(os.environ))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=helper_environment() | {"SECRET": "of the host"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "True b'' {}\n"
