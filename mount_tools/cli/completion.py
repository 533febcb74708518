"""Completion in the shell, by click: its scripts for bash, zsh and fish, and its protocol.

click sees its own commands, which are made of ours for this.  It is not used for anything
else, since it takes a sixth of the time in which a command starts.

Source: click "Shell Completion".
"""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem, add_completion_class, shell_complete

from mount_tools.cli.bash_completion import BashCompletion
from mount_tools.cli.flags import Option
from mount_tools.cli.framework import Command, Completer, Group, files

_Items = list[CompletionItem[str]]


class _Unknown(Exception):
    """The line has a command that does not exist."""


class _Command(click.Command):
    def __init__(self, name: str, ours: Command) -> None:
        operands = click.Argument(
            ["operands"],
            nargs=-1,
            type=click.UNPROCESSED,
            shell_complete=_completed(ours.completes, foreign=not ours.interspersed),
        )
        super().__init__(name, params=[*map(_option, ours.options), operands])
        self.allow_interspersed_args = ours.interspersed

    def shell_complete(self, ctx: click.Context, incomplete: str) -> _Items:
        if not self.allow_interspersed_args and ctx.params.get("operands"):
            return []
        return super().shell_complete(ctx, incomplete)


class _Group(click.Group):
    def __init__(self, name: str, ours: Group) -> None:
        super().__init__(name, params=[*map(_option, ours.options)], help=ours.summary)
        self._ours = ours

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._ours.names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self._ours.find(cmd_name)
        if isinstance(found, Group):
            return _Group(cmd_name, found)
        return None if found is None else _Command(cmd_name, found)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = self.get_command(ctx, args[0])
        if found is None:
            raise _Unknown
        return args[0], found, args[1:]


def _option(ours: Option) -> click.Option:
    return click.Option(
        [*ours.names, ours.name],
        is_flag=not ours.metavar,
        multiple=ours.multiple,
        help=ours.says,
        shell_complete=_completed(files) if ours.metavar else None,
    )


def _completed(
    completes: Completer, *, foreign: bool = False
) -> Callable[[click.Context, click.Parameter, str], _Items]:
    """Return `completes` as click calls it.

    With `foreign` the words after the first operand are another program's command line.
    """

    def complete(ctx: click.Context, _: click.Parameter, begun: str) -> _Items:
        operands = ctx.params.get("operands") or ()
        found = None
        if not (foreign and operands):
            found = completes(begun, operands, ctx.find_root().params.get("root"))
        if found is None:
            return [CompletionItem(begun, type="file")]
        return [CompletionItem(word) for word in found]

    return complete


def complete(top: Group, program: str, variable: str, instruction: str) -> int:
    """Print the completion script of a shell, or the completions of a line.

    The environment has the line; `instruction` is the value of `variable` there.  Returns an
    exit status.
    """
    add_completion_class(BashCompletion)
    try:
        return shell_complete(seen_by_click(top), {}, program, variable, instruction)
    except _Unknown:
        return 0  # a command that does not exist has no completions


def seen_by_click(top: Group) -> click.Group:
    """Return the command line `top` as click knows it."""
    return _Group(top.name, top)
