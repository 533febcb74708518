"""What docker has and PyUnion has not is said with what to do; the table and the commands agree."""

from __future__ import annotations

import click
import pytest

from mount_tools.cli.commands.create_cmd import create
from mount_tools.cli.commands.run_cmd import run
from mount_tools.cli.main import COMMANDS as OFFERED
from mount_tools.cli.not_offered import COMMANDS, FLAGS, command_text, flag_text


def test_no_command_is_both_offered_and_not() -> None:
    assert not set(COMMANDS) & set(OFFERED)


@pytest.mark.parametrize("command", [run, create])
def test_no_flag_is_both_offered_and_not(command: click.Command) -> None:
    offered = {name for option in command.params for name in option.opts}
    assert command.name is not None
    assert not set(FLAGS[command.name]) & offered


def test_the_sentences() -> None:
    assert command_text("pyunion", "volume") == (
        "pyunion has no volume: a volume is a directory of yours: -v DIRECTORY:TARGET"
    )
    assert command_text("pyunion", "nonsense") is None
    assert flag_text("run", "--restart") == (
        "pyunion has no --restart: use a unit of systemd with Restart= and `pyunion run` in it"
    )
    assert flag_text("run", "--nonsense") is flag_text("images", "--memory") is None
