"""Commands, groups and flags in the manner of docker's client.

A command is a function of its invocation, its operands and its flags:

    @command("Remove one or more images", "IMAGE [IMAGE...]", least=1, most=None)
    @flag("-f", "--force", says="Force removal of the image")
    def rmi(invocation: Invocation, operands: tuple[str, ...], force: bool) -> None:

A command with many flags takes them as one named tuple, see `as_one`.

Flags may follow operands unless a command says otherwise.  A wrong flag is a usage error
with exit status 125, a wrong number of operands is one with status 1.

Source: docker/cli `cli/required.go`, `cli/cobra.go`; spf13/pflag `flag.go`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module

from mount_tools.cli.errors import Exit, WrongWords
from mount_tools.cli.flags import FlagParser, Option, WrongFlag, parse_integer, parse_pair
from unionfs.light_typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from mount_tools.cli.invocation import Invocation

FLAG_ERROR = 125
_GROUPS = "groups."  # how members begin that are groups themselves
OPERAND_ERROR = 1

Decorated = TypeVar("Decorated", bound=Callable[..., object])
Completer = Callable[[str, Sequence[str], str | None], list[str] | None]
"""Completes a word that is begun; after which operands, and with which --root.

Returns None to leave the word to the shell, which completes file names.
"""


def files(begun: str, operands: Sequence[str], root: str | None) -> None:
    """Leave the word to the shell."""


# -- flags --


def _with(option: Option) -> Callable[[Decorated], Decorated]:
    """Add a flag to the function of a command, from which `command` takes it."""

    def add(function: Decorated) -> Decorated:
        vars(function).setdefault("options", []).append(option)
        return function

    return add


def flag(*names: str, says: str, default: bool | None = False) -> Callable[[Decorated], Decorated]:
    """Add a flag without a value; `=false` turns it off.  One that is not given is `default`."""
    return _with(Option(*names, says=says, default=default))


def text(
    *names: str, says: str, metavar: str = "string", default: str | None = None
) -> Callable[[Decorated], Decorated]:
    """Add a flag with a value."""
    return _with(Option(*names, says=says, metavar=metavar, default=default))


def texts(*names: str, says: str, metavar: str = "list") -> Callable[[Decorated], Decorated]:
    """Add a flag with a value that may be repeated."""
    return _with(Option(*names, says=says, metavar=metavar, multiple=True))


def number(*names: str, says: str, default: int) -> Callable[[Decorated], Decorated]:
    """Add a flag with a whole number of 64 bits."""
    return _with(Option(*names, says=says, metavar="int", default=default, convert=parse_integer))


def filters(*names: str, says: str) -> Callable[[Decorated], Decorated]:
    """Add `--filter name=value`, which may be repeated."""
    words = (*(names or ("-f", "--filter")), "wanted")
    return _with(Option(*words, says=says, metavar="filter", multiple=True, convert=parse_pair))


def template(each: str, *names: str) -> Callable[[Decorated], Decorated]:
    """Add `--format`, and `names` for it: a Go template that prints each `each`."""
    says = f"Print each {each} by a Go template, or as 'json'"
    return text(*names, "--format", "template", says=says)


class ListingFlags(NamedTuple):
    """The flags of a listing that docker does not have."""

    template: str | None
    json: bool
    no_trunc: bool
    quiet: bool


def listing(each: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the flags of a listing that docker does not have; `each` is one of its rows.

    The function gets them as `flags`, a `ListingFlags`.
    """
    adds = (
        template(each),
        flag("--json", "json", says="Print a JSON array, untruncated"),
        flag("--no-trunc", says="Don't truncate output"),
        flag("-q", "--quiet", says="Only show layer ids"),
    )

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        function = as_one(ListingFlags)(function)
        for add in adds:
            function = add(function)
        return function

    return decorate


def as_one(kind: Callable[..., object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give the function of a command the flags that `kind` has as fields as one `flags`.

    `kind` is a named tuple.  This decorator stands below those that add flags.  A flag that is
    not a field of `kind` remains an argument of its own.
    """
    fields: tuple[str, ...] = vars(kind)["_fields"]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        def gathering(invocation: Invocation, /, **values: object) -> None:
            flags = kind(*[values.pop(name) for name in fields])
            function(invocation, flags=flags, **values)

        gathering.__doc__ = function.__doc__
        return gathering

    return decorate


# -- commands --


def words_of(path: str) -> str:
    """Return the words of a command: its path without the program."""
    return path.partition(" ")[2]


def _see(path: str) -> str:
    return f"See '{path} --help'."


def _parsed(
    made: Command | Group, path: str, words: Sequence[str], *, interspersed: bool
) -> FlagParser:
    """Return the flags and operands in `words`.

    Raises WrongWords, and Exit when the help was asked for and printed.
    """
    name = words_of(path).removeprefix("container ")
    parser = FlagParser(made.options, interspersed=interspersed, command=name)
    try:
        parser.parse(words)
    except WrongFlag as error:
        raise WrongWords(f"{error}\n{_see(path)}", FLAG_ERROR) from None
    if parser.asks_help:
        print(made.help_text(path))
        raise Exit(0)
    return parser


class Command:
    """A command with its flags and between `least` and `most` operands."""

    def __init__(
        self,
        function: Callable[..., None],
        summary: str,
        operands: str,
        *,
        least: int,
        most: int | None,
        interspersed: bool,
        completes: Completer,
    ) -> None:
        self.options: list[Option] = vars(function).get("options", [])
        self.summary = summary
        self.operands = operands
        self.least = least
        self.most = most
        self.interspersed = interspersed
        self.completes = completes
        self._function = function

    def run(self, path: str, words: Sequence[str], invocation: Invocation) -> None:
        """Run the command that was called as `path`, with the rest of the command line.

        Raises WrongWords, Exit, and what the command raises.
        """
        values = self.values(path, words)
        if not gc.isenabled():  # see `mount_tools.pyunion`
            # Modules stay until the end, so the collector need not look at them.
            gc.freeze()
            gc.enable()
        self._function(invocation, **values)

    def values(self, path: str, words: Sequence[str]) -> dict[str, object]:
        """Return the values of the flags and the operands in `words`, by name.

        Raises WrongWords, and Exit when the help was asked for and printed.
        """
        parser = _parsed(self, path, words, interspersed=self.interspersed)
        count = len(parser.operands)
        if count < self.least or (self.most is not None and count > self.most):
            wants = _requires(self.least, self.most)
            usage = f"Usage:  {self.usage(path)}\n\n{self.summary}"
            raise WrongWords(f'"{path}" {wants}.\n{_see(path)}\n\n{usage}', OPERAND_ERROR)
        self._refuse_two_forms(path, parser.values)
        if self.most != 0:
            parser.values["operands"] = tuple(parser.operands)
        return parser.values

    def _refuse_two_forms(self, path: str, values: dict[str, object]) -> None:
        """Raise WrongWords if a listing is asked for in two forms, as --json and --format are."""
        forms = {"json": "--json", "template": "--format", "quiet": "--quiet"}
        given = [flag for name, flag in forms.items() if values.get(name)]
        if "template" in values and given[:1] == ["--json"] and len(given) > 1:
            what = f"conflicting options: --json and {given[1]}"
            raise WrongWords(f"{what}\n{_see(path)}", FLAG_ERROR)

    @property
    def description(self) -> str:
        """What the help says beside the summary: the docstring of its function."""
        from mount_tools.cli.help_pages import without_indent  # only help needs it

        return without_indent(self._function.__doc__ or "")

    def usage(self, path: str) -> str:
        parts = (path, "[OPTIONS]" if self.options else "", self.operands)
        return " ".join(part for part in parts if part)

    def help_text(self, path: str) -> str:
        from mount_tools.cli.help_pages import Shown, command_help

        text = "\n\n".join(part for part in (self.summary, self.description) if part)
        return command_help(Shown(words_of(path), self.usage(path), text, self.options))


def command(
    summary: str,
    operands: str = "",
    *,
    least: int = 0,
    most: int | None = 0,
    interspersed: bool = True,
    completes: Completer = files,
) -> Callable[[Callable[..., None]], Command]:
    """Make a command from a function.  Its help is `summary`, then the function's docstring.

    `operands` describes them in the usage line; the function gets them as a tuple.
    `completes` completes them in the shell, by default as file names.  If
    `interspersed` is false, nothing after the first operand is a flag.
    """

    def decorate(function: Callable[..., None]) -> Command:
        return Command(
            function,
            summary,
            operands,
            least=least,
            most=most,
            interspersed=interspersed,
            completes=completes,
        )

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


# -- groups --


class Group:
    """A group of commands, which are imported when they are called.

    `members` maps a name to `module.attribute` in `mount_tools.cli.commands`.  Their summaries
    are in `mount_tools.cli.summaries`: to import them all takes five times as long as the help.
    """

    def __init__(
        self, name: str, summary: str, members: dict[str, str], options: Iterable[Option] = ()
    ) -> None:
        self.name = name
        self.summary = summary
        self.members = members
        self.options = list(options)

    def names(self) -> list[str]:
        """Return the names of its commands that the help lists."""
        return sorted(name for name in self.members if name != "list")

    def find(self, name: str) -> Command | Group | None:
        """Return the command, or the group, of that name."""
        if name not in self.members:
            return None
        module, _, attribute = self.members[name].rpartition(".")
        found: object = getattr(import_module(f"mount_tools.cli.commands.{module}"), attribute)
        assert isinstance(found, Command | Group)
        return found

    def named(self, path: str, name: str) -> Command | Group:
        """Return the command that the user calls `name`.

        Raises WrongWords if there is none, with what may be meant, or what to do instead.
        """
        found = self.find(name)
        if found is not None:
            return found
        from mount_tools.cli.not_offered import unknown_command  # only for a mistake

        raise WrongWords(unknown_command(path, name, self.names()), OPERAND_ERROR)

    def parse(self, path: str, words: Sequence[str]) -> FlagParser:
        """Return the group's own flags in `words`, and as operands the command and its words.

        Raises WrongWords, and Exit when the help was asked for and printed.
        """
        return _parsed(self, path, words, interspersed=False)

    def run(self, path: str, words: Sequence[str], invocation: Invocation) -> None:
        """Run the command that `words` name.  Raises as `Command.run` does."""
        rest = self.parse(path, words).operands
        if not rest:
            self.show_help(path)
            return
        found = self.named(path, rest[0])
        found.run(f"{path} {rest[0]}", rest[1:], invocation)

    def show_help(self, path: str) -> None:
        """Print the help of a group that was called without a command, as docker does."""
        print(self.help_text(path), file=sys.stderr)

    def help_text(self, path: str) -> str:
        from mount_tools.cli.help_pages import Shown, group_help
        from mount_tools.cli.summaries import SUMMARIES

        members = [(name, self.members[name]) for name in self.names()]
        groups, commands = (
            [(name, SUMMARIES[home]) for name, home in members if home.startswith(_GROUPS) == of]
            for of in (True, False)
        )
        usage = f"{path} {'[OPTIONS] ' if self.options else ''}COMMAND"
        shown = Shown(words_of(path), usage, self.summary, self.options)
        return group_help(shown, groups, commands, path)
