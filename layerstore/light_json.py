"""What a start needs of the module json, without its import.

The module json compiles six patterns for what it does without its part in C, 1 ms of each
command.  That part alone reads and writes all JSON that is right; what is wrong is left to json,
so errors are its errors.

Source: the standard library's `json/decoder.py` and `json/encoder.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    def make_scanner(context: object) -> Callable[[str, int], tuple[Any, int]]: ...
    def make_encoder(*settings: object) -> Callable[[object, int], tuple[str, ...]]: ...
    def encode_basestring(text: str) -> str: ...
    def encode_basestring_ascii(text: str) -> str: ...
else:
    from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

_BLANKS = " \t\n\r"


class Reader:
    """Reads JSON; constants as NaN, floats and integers are made of their text by a function."""

    def __init__(
        self,
        parse_constant: Callable[[str], object],
        parse_float: Callable[[str], object] = float,
        parse_int: Callable[[str], object] = int,
    ) -> None:
        # By the names that the scanner looks for.
        self.strict = True
        self.parse_constant = parse_constant
        self.parse_float = parse_float
        self.parse_int = parse_int
        self._scan = make_scanner(self)

    def __getattr__(self, name: str) -> None:
        """There is no hook, of whatever the scanner of this Python has."""
        if name.startswith("_"):
            raise AttributeError(name)

    def read(self, text: str | bytes) -> Any:
        """Return the value in `text`, as `json.loads` does, and with its errors."""
        if isinstance(text, str):
            whole = text.strip(_BLANKS)
            with suppress(StopIteration):
                value, end = self._scan(whole, 0)
                if end == len(whole):
                    return value
        from json import loads

        return loads(
            text,
            parse_constant=self.parse_constant,
            parse_float=self.parse_float,
            parse_int=self.parse_int,
        )


def dumps(
    value: object, *, ascii_only: bool = True, compact: bool = False, sort_keys: bool = False
) -> str:
    """Return `value` as `json.dumps` writes it, in one line; raises its errors."""
    quoted = encode_basestring_ascii if ascii_only else encode_basestring
    colon, comma = (":", ",") if compact else (": ", ", ")
    write = make_encoder({}, _refuse, quoted, None, colon, comma, sort_keys, False, True)
    return "".join(write(value, 0))


def _refuse(value: object) -> None:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
