"""The functions a template can call: Go's own, and those that docker adds.

`and` and `or` are in `template`, since they do not evaluate all their operands.

Source: Go `text/template/funcs.go`; docker/cli `templates/templates.go`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from mount_tools.cli.errors import TemplateError
from mount_tools.cli.gotemplate.printf import sprintf
from mount_tools.cli.gotemplate.values import (
    Labels,
    Value,
    from_bytes,
    go_json,
    go_text,
    is_integer,
    to_bytes,
    truth,
    type_name,
)
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeAlias

Callee: TypeAlias = Callable[..., Value]

# As much padding as printf allows.
MAX_PAD = 1_000_000


class Builtin(NamedTuple):
    """A function and the Go types of its parameters; `rest` says that more may follow."""

    call: Callee
    parameters: tuple[str, ...]
    rest: bool = False

    def __call__(self, *arguments: Value) -> Value:
        return self.call(*arguments)

    def check(self, name: str, arguments: Sequence[Value]) -> None:
        """Raise TemplateError in Go's words if the function does not take `arguments`."""
        wanted, given = len(self.parameters), len(arguments)
        if given < wanted or (given > wanted and not self.rest):
            least = "at least " if self.rest else ""
            raise TemplateError(
                f"wrong number of args for {name}: want {least}{wanted} got {given}"
            )
        for kind, value in zip(self.parameters, arguments, strict=False):
            fits = (
                kind == "any"
                or (kind == "string" and isinstance(value, str))
                or (kind == "int" and is_integer(value))
                or (
                    kind == "[]string"
                    and isinstance(value, Sequence)
                    and not isinstance(value, str)
                )
            )
            if not fits:
                raise TemplateError(
                    f"wrong type for value; expected {kind}; got {type_name(value)}"
                )


def _len(value: Value) -> int:
    if isinstance(value, str):
        return len(to_bytes(value))
    if isinstance(value, Mapping | Sequence):
        return len(value)
    raise TemplateError(f"len of type {type_name(value)}")


def _position(value: Value) -> int:
    if not isinstance(value, int) or not is_integer(value):
        raise TemplateError(f"cannot index slice/array with type {type_name(value)}")
    return value


def _index(value: Value, *keys: Value) -> Value:
    for key in keys:
        if value is None:
            raise TemplateError("index of untyped nil")
        if isinstance(value, Mapping):
            if not isinstance(key, str):
                raise TemplateError(f"value has type {type_name(key)}; should be string")
            value = value.get(key, "" if isinstance(value, Labels) else None)
        elif isinstance(value, Sequence):
            items = to_bytes(value) if isinstance(value, str) else value
            at = _position(key)
            if not 0 <= at < len(items):
                raise TemplateError(f"index out of range: {at}")
            value = items[at]
        else:
            raise TemplateError(f"can't index item of type {type_name(value)}")
    return value


def _slice(value: Value, *ends: Value) -> Value:
    if not isinstance(value, Sequence):
        raise TemplateError(f"can't slice item of type {type_name(value)}")
    if len(ends) > 2:
        raise TemplateError(f"too many slice indexes: {len(ends)}")
    items = to_bytes(value) if isinstance(value, str) else value
    at = [_position(end) for end in ends]
    for end in at:
        if not 0 <= end <= len(items):
            raise TemplateError(f"index out of range: {end}")
    first, last = [*at, *(0, len(items))[len(at) :]]
    if first > last:
        raise TemplateError(f"invalid slice index: {first} > {last}")
    cut = items[first:last]
    return from_bytes(cut) if isinstance(cut, bytes) else cut


def _kind(value: Value) -> str:
    """Return the kind that Go compares by.  Raises TemplateError for a list, map or nil."""
    if isinstance(value, str | bool | int | float):
        return type_name(value)
    raise TemplateError("invalid type for comparison")


def _same(first: Value, second: Value) -> bool:
    if first is None or second is None:
        return first is second
    if _kind(first) != _kind(second):
        raise TemplateError("incompatible types for comparison")
    return first == second


def _equal(first: Value, *others: Value) -> bool:
    if not others:
        raise TemplateError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _order(first: Value, second: Value) -> int:
    if "bool" in (_kind(first), _kind(second)):
        raise TemplateError("invalid type for comparison")
    if isinstance(first, str) and isinstance(second, str):
        return (first > second) - (first < second)
    if type_name(first) == type_name(second):
        assert isinstance(first, int | float) and isinstance(second, int | float)
        return (first > second) - (first < second)
    raise TemplateError("incompatible types for comparison")


def _split(text: str, separator: str) -> Value:
    return text.split(separator) if separator else list(text)


def _join(items: Sequence[Value], separator: str) -> str:
    return separator.join([go_text(item) for item in items])


def _title(text: str) -> str:
    return re.sub(r"(?<!\w)\w", lambda match: match.group().upper(), text)


def _print(*values: Value) -> str:
    """Print as Go's Sprint: a space between two operands if neither is a string."""
    text = ""
    for at, value in enumerate(values):
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            text += " "
        text += go_text(value, nested=True)
    return text


def _println(*values: Value) -> str:
    return " ".join([go_text(value, nested=True) for value in values]) + "\n"


def _pad(text: str, before: int, after: int) -> str:
    if not text:
        return ""
    if min(before, after) < 0:
        raise TemplateError("strings: negative Repeat count")
    if max(before, after) > MAX_PAD:
        raise TemplateError(f"cannot pad with more than {MAX_PAD} spaces")
    return " " * before + text + " " * after


def _truncate(text: str, length: int) -> str:
    if length < 0:
        raise TemplateError(f"slice bounds out of range [:{length}]")
    return text[:length]


FUNCTIONS: dict[str, Builtin] = {
    "json": Builtin(go_json, ("any",)),
    "split": Builtin(_split, ("string", "string")),
    "join": Builtin(_join, ("[]string", "string")),
    "title": Builtin(_title, ("string",)),
    "lower": Builtin(str.lower, ("string",)),
    "upper": Builtin(str.upper, ("string",)),
    "pad": Builtin(_pad, ("string", "int", "int")),
    "truncate": Builtin(_truncate, ("string", "int")),
    "print": Builtin(_print, (), rest=True),
    "println": Builtin(_println, (), rest=True),
    "printf": Builtin(sprintf, ("string",), rest=True),
    "len": Builtin(_len, ("any",)),
    "index": Builtin(_index, ("any",), rest=True),
    "slice": Builtin(_slice, ("any",), rest=True),
    "not": Builtin(lambda value: not truth(value), ("any",)),
    "eq": Builtin(_equal, ("any",), rest=True),
    "ne": Builtin(lambda first, second: not _same(first, second), ("any", "any")),
    "lt": Builtin(lambda first, second: _order(first, second) < 0, ("any", "any")),
    "le": Builtin(lambda first, second: _order(first, second) <= 0, ("any", "any")),
    "gt": Builtin(lambda first, second: _order(first, second) > 0, ("any", "any")),
    "ge": Builtin(lambda first, second: _order(first, second) >= 0, ("any", "any")),
}

# The template also prints the heading of a table: there these functions change nothing.
HEADER_FUNCTIONS: dict[str, Builtin] = (
    FUNCTIONS
    | {
        name: Builtin(lambda text, *_: text, FUNCTIONS[name].parameters[:1], rest=True)
        for name in ("json", "title", "lower", "upper", "truncate", "split")
    }
    | {"join": Builtin(lambda text, *_: text, ("any",), rest=True)}
)
