"""Split the words of a command line into flags, their values and operands, as pflag does.

A short flag takes its value as `-m text`, `-mtext` or `-m=text`, also at the end of a
cluster: `-am=text`.  A flag without a value is turned off by `--all=false` or `-a=false`.
If such a flag is repeated, the last one counts.

Source: spf13/pflag `flag.go` (parseArgs, parseLongArg, parseSingleShortArg).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import click

from mount_tools.cli.not_offered import flag_text

TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
HELP = "--help"
MAX_INT = 2**63 - 1

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)


class WrongFlag(Exception):
    """A flag is wrong; the text is pflag's."""


def invalid_value(value: str, option: click.Parameter | None, reason: str) -> str:
    """Return pflag's sentence for a value that the flag `option` does not take."""
    names = ", ".join(sorted(option.opts, key=len)) if option is not None else ""
    return f'invalid argument "{value}" for "{names}" flag: {reason}'


def parse_integer(text: str) -> int:
    """Return the decimal integer `text`: ASCII digits, at most 64 bits.

    Raises ValueError with the text of Go's strconv.ParseInt.
    """
    if not _INTEGER.fullmatch(text):
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    # The digits are counted first: int() refuses more than 4,300 of them.
    if len(text.lstrip("+-0")) > 19 or not -MAX_INT - 1 <= (value := int(text)) <= MAX_INT:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


class FlagParser:
    """Splits the words of one command line.

    `words` has the flags in the form that click takes: `--name value`, each value a word of
    its own; then `--` and the operands.  `switches` has the flags without a value, by parameter
    name.
    """

    def __init__(
        self,
        options: Iterable[click.Parameter],
        *,
        interspersed: bool,
        command: str | None = None,
    ) -> None:
        """If `interspersed` is false, nothing after the first operand is a flag.

        `command` is the name of the command, for messages.
        """
        self._command = command
        self._options = {
            name: option
            for option in options
            if isinstance(option, click.Option)
            for name in option.opts
        }
        self._interspersed = interspersed
        self.words: list[str] = []
        self.switches: dict[str, bool] = {}

    def parse(self, args: Sequence[str]) -> None:
        """Split `args`.  Raises WrongFlag."""
        ahead = list(reversed(args))
        operands: list[str] = []
        while ahead:
            word = ahead.pop()
            if word == "--":
                operands.extend(reversed(ahead))
                break
            if word.startswith("--"):
                self._long(word, ahead)
            elif word.startswith("-") and word != "-":
                self._cluster(word[1:], ahead)
            else:
                operands.append(word)
                if not self._interspersed:
                    operands.extend(reversed(ahead))
                    break
        self.words += ["--", *operands]

    def _long(self, word: str, ahead: list[str]) -> None:
        name, equals, value = word.partition("=")
        if name == "--" or name.startswith("---"):
            raise WrongFlag(f"bad flag syntax: {word}")
        option = self._options.get(name)
        if option is None:
            if name != HELP:
                raise WrongFlag(flag_text(self._command, name) or f"unknown flag: {name}")
            self.words.append(HELP)
        elif option.is_flag:
            self._switch(option, value if equals else "true")
        elif equals:
            self._value(name, value)
        elif ahead:
            self._value(name, ahead.pop())
        else:
            raise WrongFlag(f"flag needs an argument: {name}")

    def _cluster(self, letters: str, ahead: list[str]) -> None:
        """Split a cluster: the letters after a single dash."""
        while letters:
            letter, rest = letters[0], letters[1:]
            option = self._options.get(f"-{letter}")
            if option is None:
                if letter != "h":
                    raise WrongFlag(
                        flag_text(self._command, f"-{letter}")
                        or f"unknown shorthand flag: '{letter}' in -{letters}"
                    )
                self.words.append(HELP)
                return
            # "-e=" is the value "=", as in pflag, and "-e=x" is "x".
            value = rest[1:] if len(rest) > 1 and rest[0] == "=" else None
            if option.is_flag:
                self._switch(option, "true" if value is None else value)
                letters = rest if value is None else ""
                continue
            if value is None:
                if not rest and not ahead:
                    raise WrongFlag(f"flag needs an argument: '{letter}' in -{letters}")
                value = rest or ahead.pop()
            self._value(f"-{letter}", value)
            return

    def _switch(self, option: click.Option, value: str) -> None:
        if value not in TRUE | FALSE:
            reason = f'strconv.ParseBool: parsing "{value}": invalid syntax'
            raise WrongFlag(invalid_value(value, option, reason))
        assert option.name
        self.switches[option.name] = value in TRUE

    def _value(self, name: str, value: str) -> None:
        self.words += [name, value]
