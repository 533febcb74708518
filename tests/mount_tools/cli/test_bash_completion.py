"""A real bash completes names with a colon, and leaves file names to itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mount_tools.cli.bash_completion import BashCompletion
from mount_tools.cli.completion import seen_by_click
from mount_tools.cli.main import top
from tests.helpers.cli import Cli
from tests.helpers.terminals import Terminal

PYUNION = Path(sys.executable).with_name("pyunion")
PROMPT = b"ready> "


class Bash:
    """An interactive bash in which the completion of `pyunion` is set up."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.terminal = Terminal(24, 200)
        self.process = subprocess.Popen(
            [str(shutil.which("bash")), "--norc", "--noprofile", "-i"],
            stdin=self.terminal.program,
            stdout=self.terminal.program,
            stderr=self.terminal.program,
            cwd=directory,
            env={
                "PATH": f"{PYUNION.parent}:{os.environ['PATH']}",
                "PYUNION_ROOT": str(root),
                "PS1": PROMPT.decode(),
                "TERM": "dumb",
                "HOME": str(directory),
                "INPUTRC": "/dev/null",
            },
            start_new_session=True,
        )
        self.terminal.await_text(PROMPT)
        self.terminal.type(b'eval "$(_PYUNION_COMPLETE=bash_source pyunion)"\n')
        self.terminal.await_text(PROMPT)

    def words(self, typed: str) -> list[str]:
        """Type a line with its tabs; return the words bash then has."""
        # Control-A: the words become operands of printf instead of a command.
        self.terminal.type(typed.encode() + b"\x01printf '<%s>' \n")
        self.terminal.await_text(b"\r\n<")
        end = b">" + PROMPT
        return self.terminal.await_text(end).removesuffix(end).decode().split("><")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.terminal.close()


@pytest.fixture
def bash(cli: Cli, tmp_path: Path) -> Iterator[Bash]:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/archive.tar").touch()
    made = Bash(cli.root, tmp_path / "files")
    yield made
    made.close()


LINES = {
    "pyunion hist\tbusy:1 --no-\t": ["pyunion", "history", "busy:1", "--no-trunc"],
    "pyunion rmi bus\t": ["pyunion", "rmi", "busy:1"],
    "pyunion rmi busy:\t": ["pyunion", "rmi", "busy:1"],
    "pyunion rmi busy:1\t": ["pyunion", "rmi", "busy:1"],
    "pyunion rmi busy:1 ch\t": ["pyunion", "rmi", "busy:1", "changed:1"],
    "pyunion load -i arch\t": ["pyunion", "load", "-i", "archive.tar"],
    "pyunion load --input=arch\t": ["pyunion", "load", "--input=archive.tar"],
    "pyunion import arch\t": ["pyunion", "import", "archive.tar"],
    "pyunion run busy:1 cat arch\t": ["pyunion", "run", "busy:1", "cat", "archive.tar"],
    "pyunion which arch\t bus\t": ["pyunion", "which", "archive.tar", "busy:1"],
    "pyunion nope arch\t": ["pyunion", "nope", "arch"],
}


@pytest.mark.usefixtures("child")
def test_lines_are_completed(bash: Bash) -> None:
    assert {typed: bash.words(typed) for typed in LINES} == LINES


@pytest.mark.parametrize(
    ("typed", "current", "args", "incomplete"),
    [
        ("pyunion rmi busy:1", "1", ["rmi"], "busy:1"),
        ("pyunion rmi ", "", ["rmi"], ""),
        ("A=b pyunion rmi 'a b", "b", ["rmi"], "a b"),
        ("", "", [], ""),
    ],
)
def test_the_line_is_split_at_spaces_only(
    typed: str, current: str, args: list[str], incomplete: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_TYPED", typed)
    monkeypatch.setenv("COMP_CURRENT", current)
    monkeypatch.setenv("COMP_COMMAND", "pyunion")
    completion = BashCompletion(seen_by_click(top), {}, "pyunion", "_PYUNION_COMPLETE")
    found, rest = completion.get_completion_args()
    assert (found, rest) == (args, incomplete)
