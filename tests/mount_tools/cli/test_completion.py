"""click sees the command line as it is; what it completes is in test_complete."""

from __future__ import annotations

import click
import pytest

from mount_tools.cli.completion import complete, seen_by_click
from mount_tools.cli.framework import Command, Group
from mount_tools.cli.main import COMPLETION, PROGRAM, top


def same(ours: Group, seen: click.Command | None) -> None:
    assert isinstance(seen, click.Group)
    context = click.Context(seen)
    assert seen.list_commands(context) == ours.names()
    for name in ours.names():
        member, made = ours.find(name), seen.get_command(context, name)
        if isinstance(member, Group):
            same(member, made)
            continue
        assert isinstance(member, Command) and made is not None
        options = [one for one in made.params if isinstance(one, click.Option)]
        assert [tuple(one.opts) for one in options] == [one.names for one in member.options]
        assert [one.is_flag for one in options] == [not one.metavar for one in member.options]


def test_click_sees_every_command_and_flag() -> None:
    same(top, seen_by_click(top))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complete(top, PROGRAM, COMPLETION, f"{shell}_source") == 0
    assert f"{COMPLETION}={shell}_complete" in capsys.readouterr().out


def test_a_command_that_does_not_exist_has_no_completions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_WORDS", "pyunion nope x")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert complete(top, PROGRAM, COMPLETION, "zsh_complete") == 0
    assert capsys.readouterr().out == ""
