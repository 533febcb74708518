"""Commands, groups and flags in the manner of docker's client, on top of click.

Flags may follow operands unless a command says otherwise.  A wrong flag is a usage error
with exit status 125, a wrong number of operands is one with status 1.

Source: docker/cli `cli/required.go`, `cli/cobra.go`; spf13/pflag `flag.go`.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

import click

from mount_tools.cli.errors import WrongWords
from mount_tools.cli.flags import FlagParser, WrongFlag, invalid_value, parse_integer
from mount_tools.cli.help_text import Entry, examples_of, exit_statuses_of, words_of
from mount_tools.cli.not_offered import command_text

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

FLAG_ERROR = 125
OPERAND_ERROR = 1

Completion = list[str] | list["CompletionItem[str]"]
Completer = Callable[[click.Context, click.Parameter, str], Completion]
Decorated = TypeVar("Decorated", bound=Callable[..., object])


def files(context: click.Context, parameter: click.Parameter, begun: str) -> Completion:
    """Leave the word to the shell, which completes file names."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(begun, type="file")]


# -- flags --


class Integer(click.ParamType[int]):
    """A whole number of 64 bits in ASCII digits; anything else is refused in Go's words."""

    name = "int"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        text = str(value)
        try:
            return parse_integer(text)
        except ValueError as error:
            raise click.BadParameter(invalid_value(text, param, str(error))) from None


class KeyValue(click.ParamType[tuple[str, str]]):
    """A filter, `name=value`."""

    name = "filter"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        name, equals, wanted = str(value).partition("=")
        if not equals:
            reason = "bad format of filter (expected name=value)"
            raise click.BadParameter(invalid_value(str(value), param, reason))
        return name.strip().lower(), wanted.strip()


def flag(*names: str, says: str, default: bool = False) -> Callable[[Decorated], Decorated]:
    """Add a flag without a value; `=false` turns it off."""
    return click.option(*names, is_flag=True, default=default, help=says)


def text(
    *names: str, says: str, metavar: str = "string", default: str | None = None
) -> Callable[[Decorated], Decorated]:
    """Add a flag with a value."""
    return click.option(*names, metavar=metavar, default=default, help=says, shell_complete=files)


def texts(*names: str, says: str, metavar: str = "list") -> Callable[[Decorated], Decorated]:
    """Add a flag with a value that may be repeated."""
    return click.option(*names, metavar=metavar, multiple=True, help=says, shell_complete=files)


def number(*names: str, says: str, default: int) -> Callable[[Decorated], Decorated]:
    return click.option(*names, metavar="int", type=Integer(), default=default, help=says)


def filters(*names: str, says: str) -> Callable[[Decorated], Decorated]:
    """Add `--filter name=value`, which may be repeated."""
    return click.option(
        *(names or ("-f", "--filter")),
        "wanted",
        metavar="filter",
        type=KeyValue(),
        multiple=True,
        help=says,
    )


def listing(each: str) -> Callable[[Decorated], Decorated]:
    """Add the flags of a listing that docker does not have; `each` is one of its rows."""
    adds = (
        text("--format", "template", says=f"Print each {each} by a Go template, or as 'json'"),
        flag("--json", "json", says="Print a JSON array, untruncated"),
        flag("--no-trunc", says="Don't truncate output"),
        flag("-q", "--quiet", says="Only show layer ids"),
    )

    def decorate(function: Decorated) -> Decorated:
        for add in reversed(adds):
            function = add(function)
        return function

    return decorate


# -- commands --


Parse = Callable[[click.Context, list[str]], list[str]]


def parse_flags(
    made: click.Command, parse: Parse, ctx: click.Context, args: list[str]
) -> list[str]:
    """Parse `args` into `ctx.params` in the manner of pflag; `parse` is click's own parser.

    Raises WrongWords.  While the shell completes an unfinished line, click's parser is used:
    it accepts the line as it is.
    """
    if ctx.resilient_parsing:
        return parse(ctx, args)
    words = words_of(ctx.command_path).removeprefix("container ")
    flags = FlagParser(made.params, interspersed=made.allow_interspersed_args, command=words)
    try:
        flags.parse(args)
        rest = parse(ctx, flags.words)
    except WrongFlag as error:
        what = str(error)
    except click.BadParameter as error:
        what = error.message
    except click.UsageError as error:
        what = error.format_message()
    else:
        ctx.params.update(flags.switches)
        return rest
    raise WrongWords(f"{what}\nSee '{ctx.command_path} --help'.", FLAG_ERROR)


class Command(click.Command):
    """A command with its flags and between `least` and `most` operands."""

    summary = ""
    operands = ""
    least = 0
    most: int | None = 0

    def invoke(self, ctx: click.Context) -> object:
        if not gc.isenabled():  # see `mount_tools.pyunion`
            # What was imported stays: the collector need not look at it.
            gc.freeze()
            gc.enable()
        found: object = super().invoke(ctx)
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = parse_flags(self, super().parse_args, ctx, args)
        given = ctx.params.get("operands", ())
        count = len(given) if isinstance(given, tuple) else 0
        if not ctx.resilient_parsing and (
            count < self.least or (self.most is not None and count > self.most)
        ):
            usage = f"Usage:  {self.usage(ctx)}\n\n{self.summary}"
            see = f"See '{ctx.command_path} --help'."
            wants = _requires(self.least, self.most)
            raise WrongWords(f'"{ctx.command_path}" {wants}.\n{see}\n\n{usage}', OPERAND_ERROR)
        if self.most == 0:
            del ctx.params["operands"]
        self._refuse_two_forms(ctx)
        return rest

    def _refuse_two_forms(self, ctx: click.Context) -> None:
        """Raise WrongWords if a listing is asked for in two forms, as --json and --format are."""
        forms = {"json": "--json", "template": "--format", "quiet": "--quiet"}
        given = [flag for name, flag in forms.items() if ctx.params.get(name)]
        if "template" in ctx.params and given[:1] == ["--json"] and len(given) > 1:
            what = f"conflicting options: --json and {given[1]}"
            raise WrongWords(f"{what}\nSee '{ctx.command_path} --help'.", FLAG_ERROR)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        if not self.allow_interspersed_args and ctx.params.get("operands"):
            return []
        return super().shell_complete(ctx, incomplete)

    # -- help --

    def usage(self, ctx: click.Context) -> str:
        described = any(isinstance(param, click.Option) for param in self.params)
        parts = (ctx.command_path, "[OPTIONS]" if described else "", self.operands)
        return " ".join(part for part in parts if part)

    def get_help(self, ctx: click.Context) -> str:
        described = [param for param in self.params if isinstance(param, click.Option)]
        said = f"{self.summary}\n\n{self.help}" if self.help else self.summary
        words = words_of(ctx.command_path)
        parts = [
            f"\nUsage:  {self.usage(ctx)}\n\n{said}\n{_option_lines(described)}".rstrip("\n"),
            _example_lines(examples_of(words)),
            _entry_lines("Exit status:", exit_statuses_of(words)),
        ]
        return "\n\n".join(part for part in parts if part)

    def get_short_help_str(self, limit: int = 0) -> str:
        return self.summary

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.hidden = True
        return option


def command(
    summary: str,
    operands: str = "",
    *,
    least: int = 0,
    most: int | None = 0,
    interspersed: bool = True,
    completes: Completer | None = None,
) -> Callable[[Callable[..., None]], Command]:
    """Make a command from a function.  Its help is `summary`, then the function's docstring.

    `operands` describes them in the usage line; the function gets them as a tuple.
    `completes` completes them in the shell, by default as file names.  If
    `interspersed` is false, nothing after the first operand is a flag.
    """

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> Completion:
        # In `run` and `exec` the words after the first operand are another program's command line.
        foreign = not interspersed and context.params.get("operands")
        return (files if foreign or completes is None else completes)(context, parameter, begun)

    def decorate(function: Callable[..., None]) -> Command:
        function = click.argument(
            "operands", nargs=-1, type=click.UNPROCESSED, shell_complete=complete
        )(function)
        made = click.command(cls=Command)(function)
        made.summary, made.operands, made.least, made.most = summary, operands, least, most
        made.allow_interspersed_args = interspersed
        made.help = inspect.cleandoc(function.__doc__ or "") or None
        return made

    return decorate


def _requires(least: int, most: int | None) -> str:
    def counted(number: int) -> str:
        return f"{number} argument{'' if number == 1 else 's'}"

    if most == 0:
        return "accepts no arguments"
    if most == least:
        return f"requires exactly {counted(least)}"
    if most is None:
        return f"requires at least {counted(least)}"
    if least == 0:
        return f"requires at most {counted(most)}"
    return f"requires at least {least} and at most {counted(most)}"


def _option_lines(options: Sequence[click.Option]) -> str:
    """Return the options as pflag lists them, wrapped to the terminal."""
    shown: list[tuple[str, str]] = []
    for option in options:
        if option.hidden:
            continue
        short = next((name for name in option.opts if not name.startswith("--")), "")
        long = next((name for name in option.opts if name.startswith("--")), "")
        name = f"  {short}, {long}" if short and long else f"      {long}" if long else f"  {short}"
        takes = "" if option.is_flag else f" {option.metavar or 'string'}"
        shown.append((name + takes, option.help or ""))
    if not shown:
        return ""
    import shutil  # only help needs these two
    import textwrap

    shown.sort(key=lambda pair: pair[0].split("--")[-1].lower())
    column = max(len(name) for name, _ in shown) + 3
    width = max(40, shutil.get_terminal_size().columns - column)
    lines = ["", "Options:"]
    for name, says in shown:
        wrapped = textwrap.wrap(says, width) or [""]
        lines.append(name.ljust(column) + wrapped[0])
        lines.extend(" " * column + more for more in wrapped[1:])
    return "\n".join(lines) + "\n"


def _example_lines(examples: Sequence[Entry]) -> str:
    """Return example command lines, each with its meaning on the next line."""
    lines = [f"  {line}\n      {does}" for line, does in examples]
    return "\n".join(["Examples:", *lines]) if lines else ""


def _entry_lines(title: str, entries: Sequence[Entry]) -> str:
    column = max(len(term) for term, _ in entries) + 5
    return "\n".join([title, *(f"  {term}".ljust(column) + says for term, says in entries)])


# -- groups --


def _nearest(word: str, known: Sequence[str]) -> str:
    """Return the word of `known` that is most like `word`, or "" if none is like it."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, n=1)), "")


@click.pass_context
def show_help_if_alone(ctx: click.Context) -> None:
    """Print the help if a group is called without a command, as docker does."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help(), file=sys.stderr)


class Group(click.Group):
    """A group of commands, which are imported when they are called.

    `members` maps a name to `module.attribute` in `mount_tools.cli.commands`.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        members: dict[str, str],
        params: list[click.Parameter] | None = None,
        callback: Callable[..., object] | None = None,
    ) -> None:
        super().__init__(
            name,
            params=params,
            callback=callback or show_help_if_alone,
            invoke_without_command=True,
            help=summary,
        )
        self.members = members
        self.summary = summary

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(name for name in self.members if name != "list")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.members:
            return None
        module, _, attribute = self.members[cmd_name].rpartition(".")
        found: object = getattr(import_module(f"mount_tools.cli.commands.{module}"), attribute)
        assert isinstance(found, click.Command)
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return parse_flags(self, super().parse_args, ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = self.get_command(ctx, args[0])
        if found is not None:
            return args[0], found, args[1:]
        if ctx.parent is None:
            program = ctx.command_path
            instead = command_text(program, args[0])
            if instead is not None:
                raise WrongWords(instead, OPERAND_ERROR)
            nearest = _nearest(args[0], self.list_commands(ctx))
            meant = f" Did you mean '{nearest}'?" if nearest else ""
            text = f"{program}: '{args[0]}' is not a {program} command.{meant}"
            raise WrongWords(f"{text}\nSee '{program} --help'", OPERAND_ERROR)
        raise WrongWords(self.get_help(ctx), OPERAND_ERROR)

    def get_short_help_str(self, limit: int = 0) -> str:
        return self.summary

    def get_help(self, ctx: click.Context) -> str:
        options = [param for param in self.params if isinstance(param, click.Option)]
        members = [
            (name, member)
            for name in self.list_commands(ctx)
            if (member := self.get_command(ctx, name)) is not None
        ]
        lines = [
            "",
            f"Usage:  {ctx.command_path} {'[OPTIONS] ' if options else ''}COMMAND",
            "",
            self.summary,
            _option_lines(options),
        ]
        width = max(len(name) for name, _ in members) + 3
        for title, kind in (("Management Commands:", click.Group), ("Commands:", Command)):
            named = [pair for pair in members if isinstance(pair[1], kind)]
            if not named:
                continue
            lines.append(title)
            for name, member in named:
                lines.append(f"  {name.ljust(width)}{member.get_short_help_str()}")
            lines.append("")
        program = ctx.command_path
        return "\n".join([*lines, f"Run '{program} COMMAND --help' for more on a command."])
