"""Flags, and how the words of a command line become their values and operands, as in pflag.

A short flag takes its value as `-m text`, `-mtext` or `-m=text`, also at the end of a
cluster: `-am=text`.  A flag without a value is turned off by `--all=false` or `-a=false`.
If a flag is repeated that takes one value, or none, the last one counts.

Source: spf13/pflag `flag.go` (parseArgs, parseLongArg, parseSingleShortArg).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
HELP = "--help"
MAX_INT = 2**63 - 1

_INTEGER = r"[+-]?[0-9]+"


class WrongFlag(Exception):
    """A flag is wrong; the text is pflag's."""


class Option:
    """A flag of a command; `names` are its words, as -a and --all, and `says` is its help.

    It takes a value if it has a `metavar`, which names that in the help; `convert` makes an
    object of the value's text, or raises ValueError with the reason.  One that is `multiple`
    may be repeated, and has a tuple of values.
    """

    __slots__ = ("convert", "default", "metavar", "multiple", "name", "names", "says")

    def __init__(
        self,
        *words: str,
        says: str,
        metavar: str = "",
        default: object = None,
        multiple: bool = False,
        convert: Callable[[str], object] = str,
    ) -> None:
        """Make one of its names, and of that of its parameter, by default the first long name."""
        self.names = tuple(word for word in words if word.startswith("-"))
        own = next((word for word in words if not word.startswith("-")), "")
        long = next((word for word in words if word.startswith("--")), words[0])
        self.name = own or long.lstrip("-").replace("-", "_")
        self.says = says
        self.metavar = metavar
        self.default = default
        self.multiple = multiple
        self.convert = convert

    def wrong(self, value: str, reason: str) -> WrongFlag:
        """Return the error, in pflag's words, for a value that this flag does not take."""
        names = ", ".join(sorted(self.names, key=len))
        return WrongFlag(f'invalid argument "{value}" for "{names}" flag: {reason}')


def parse_integer(text: str) -> int:
    """Return the decimal integer `text`: ASCII digits, at most 64 bits.

    Raises ValueError with the text of Go's strconv.ParseInt.
    """
    import re  # few command lines have one

    if not re.fullmatch(_INTEGER, text, re.ASCII):
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    # The digits are counted first: int() refuses more than 4,300 of them.
    if len(text.lstrip("+-0")) > 19 or not -MAX_INT - 1 <= (value := int(text)) <= MAX_INT:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def parse_pair(text: str) -> tuple[str, str]:
    """Return name and value of the filter `text`, `name=value`; raises ValueError."""
    name, equals, wanted = text.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    return name.strip().lower(), wanted.strip()


class FlagParser:
    """Splits the words of one command line.

    `values` has the value of every flag by the name of its parameter, `operands` the rest;
    `asks_help` tells whether --help or -h was among the words.
    """

    def __init__(self, options: Iterable[Option], *, interspersed: bool, command: str = "") -> None:
        """If `interspersed` is false, nothing after the first operand is a flag.

        `command` is its words after `pyunion`, for messages.
        """
        self._command = command
        self._options: dict[str, Option] = {}
        self._interspersed = interspersed
        self.values: dict[str, object] = {}
        self.operands: list[str] = []
        self.asks_help = False
        for option in options:
            self.values[option.name] = () if option.multiple else option.default
            for name in option.names:
                self._options[name] = option

    def parse(self, args: Sequence[str]) -> None:
        """Split `args`.  Raises WrongFlag."""
        ahead = list(reversed(args))
        while ahead:
            word = ahead.pop()
            if word == "--":
                self.operands.extend(reversed(ahead))
                break
            if word.startswith("--"):
                self._long(word, ahead)
            elif word.startswith("-") and word != "-":
                self._cluster(word[1:], ahead)
            else:
                self.operands.append(word)
                if not self._interspersed:
                    self.operands.extend(reversed(ahead))
                    break

    def _long(self, word: str, ahead: list[str]) -> None:
        name, equals, value = word.partition("=")
        if name == "--" or name.startswith("---"):
            raise WrongFlag(f"bad flag syntax: {word}")
        option = self._options.get(name)
        if option is None:
            if name != HELP:
                from mount_tools.cli.not_offered import unknown_flag  # only for a mistake

                known = [name for name in self._options if name.startswith("--")]
                raise WrongFlag(unknown_flag(self._command, name, known))
            self.asks_help = True
        elif not option.metavar:
            self._switch(option, value if equals else "true")
        elif equals:
            self._value(option, value)
        elif ahead:
            self._value(option, ahead.pop())
        else:
            raise WrongFlag(f"flag needs an argument: {name}")

    def _cluster(self, letters: str, ahead: list[str]) -> None:
        """Split a cluster: the letters after a single dash."""
        while letters:
            letter, rest = letters[0], letters[1:]
            option = self._options.get(f"-{letter}")
            if option is None:
                if letter != "h":
                    from mount_tools.cli.not_offered import flag_text  # only for a mistake

                    raise WrongFlag(
                        flag_text(self._command, f"-{letter}")
                        or f"unknown shorthand flag: '{letter}' in -{letters}"
                    )
                self.asks_help = True
                return
            # "-e=" is the value "=", as in pflag, and "-e=x" is "x".
            value = rest[1:] if len(rest) > 1 and rest[0] == "=" else None
            if not option.metavar:
                self._switch(option, "true" if value is None else value)
                letters = rest if value is None else ""
                continue
            if value is None:
                if not rest and not ahead:
                    raise WrongFlag(f"flag needs an argument: '{letter}' in -{letters}")
                value = rest or ahead.pop()
            self._value(option, value)
            return

    def _switch(self, option: Option, value: str) -> None:
        if value not in TRUE | FALSE:
            raise option.wrong(value, f'strconv.ParseBool: parsing "{value}": invalid syntax')
        self.values[option.name] = value in TRUE

    def _value(self, option: Option, text: str) -> None:
        try:
            value = option.convert(text)
        except ValueError as error:
            raise option.wrong(text, str(error)) from None
        if option.multiple:
            before = self.values[option.name]
            assert isinstance(before, tuple)
            value = (*before, value)
        self.values[option.name] = value
