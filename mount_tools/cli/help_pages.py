"""The text that `--help` prints, in the form of docker's."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence

from mount_tools.cli.flags import Option
from mount_tools.cli.help_text import Term, examples_of, exit_statuses_of
from unionfs.light_typing import NamedTuple

_STDOUT = 1
_COLUMNS = 80


class Shown(NamedTuple):
    """What the help of a command, or of a group, is made of; `words` are those of its path."""

    words: str
    usage: str
    text: str
    options: Sequence[Option]


def command_help(shown: Shown) -> str:
    """Return the help of a command."""
    top = f"\nUsage:  {shown.usage}\n\n{shown.text}\n{_option_lines(shown.options)}"
    parts = [
        top.rstrip("\n"),
        _example_lines(examples_of(shown.words)),
        _entry_lines("Exit status:", exit_statuses_of(shown.words)),
    ]
    return "\n\n".join(part for part in parts if part)


def group_help(
    shown: Shown, groups: Sequence[tuple[str, str]], commands: Sequence[tuple[str, str]], path: str
) -> str:
    """Return the help of a group that was called as `path`, with a summary of each member."""
    lines = ["", f"Usage:  {shown.usage}", "", shown.text, _option_lines(shown.options)]
    width = max(len(name) for name, _ in (*groups, *commands)) + 3
    for title, members in (("Management Commands:", groups), ("Commands:", commands)):
        if members:
            lines.append(title)
            lines.extend(f"  {name.ljust(width)}{summary}" for name, summary in members)
            lines.append("")
    return "\n".join([*lines, f"Run '{path} COMMAND --help' for more on a command."])


def without_indent(docstring: str) -> str:
    """Return a docstring without the indent of its lines after the first.

    As inspect.cleandoc(); the module inspect takes longer than the rest of a help.
    """
    first, _, rest = docstring.partition("\n")
    return f"{first.strip()}\n{textwrap.dedent(rest)}".strip()


def _terminal_columns() -> int:
    """Return the columns of the terminal, or what $COLUMNS says.

    As shutil.get_terminal_size(), whose module takes as long as the rest of a help.
    """
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    try:
        return os.get_terminal_size(_STDOUT).columns or _COLUMNS
    except OSError:
        return _COLUMNS  # stdout is closed, or no terminal


def _option_lines(options: Sequence[Option]) -> str:
    """Return the options as pflag lists them, wrapped to the terminal."""
    shown: list[tuple[str, str]] = []
    for option in options:
        short = next((name for name in option.names if not name.startswith("--")), "")
        long = next((name for name in option.names if name.startswith("--")), "")
        name = f"  {short}, {long}" if short and long else f"      {long}" if long else f"  {short}"
        shown.append((f"{name} {option.metavar}".rstrip(), option.says))
    if not shown:
        return ""
    shown.sort(key=lambda pair: pair[0].split("--")[-1].lower())
    column = max(len(name) for name, _ in shown) + 3
    width = max(40, _terminal_columns() - column)
    lines = ["", "Options:"]
    for name, says in shown:
        wrapped = textwrap.wrap(says, width) or [""]
        lines.append(name.ljust(column) + wrapped[0])
        lines.extend(" " * column + more for more in wrapped[1:])
    return "\n".join(lines) + "\n"


def _example_lines(examples: Sequence[Term]) -> str:
    """Return example command lines, each with its meaning on the next line."""
    lines = [f"  {line}\n      {does}" for line, does in examples]
    return "\n".join(["Examples:", *lines]) if lines else ""


def _entry_lines(title: str, entries: Sequence[Term]) -> str:
    column = max(len(term) for term, _ in entries) + 5
    return "\n".join([title, *(f"  {term}".ljust(column) + says for term, says in entries)])
