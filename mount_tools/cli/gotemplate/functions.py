"""What `--format` can call: Go's own functions and the few docker adds.

Source: Go `text/template/funcs.go`; docker/cli `templates/templates.go`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from mount_tools.cli.errors import TemplateError

Value: TypeAlias = "bool | int | float | str | Sequence[Value] | Mapping[str, Value] | None"
Callee: TypeAlias = Callable[..., Value]


class Row(dict[str, "Value"]):
    """One line of a listing: what a template sees as a struct of the named Go type."""

    type_name = "*formatter.context"


class Labels(dict[str, "Value"]):
    """Go's map[string]string: a key that is missing is empty and no error."""


# -- Go's printing --


def go_text(value: Value, *, nested: bool = False) -> str:
    """Return a value as Go's `%v` prints it."""
    if value is None:
        return "<nil>" if nested else "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        pairs = (f"{key}:{go_text(value[key], nested=True)}" for key in sorted(value))
        return f"map[{' '.join(pairs)}]"
    if isinstance(value, Sequence):
        return f"[{' '.join(go_text(item, nested=True) for item in value)}]"
    return str(value)


def go_json(value: Value) -> str:
    """Return a value as Go's encoder writes it, a row sorted and with `<`, `>`, `&` escaped."""
    row = isinstance(value, Row)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=row)
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    if row:
        for character in "<>&":
            text = text.replace(character, f"\\u{ord(character):04x}")
    return text


VERB = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>\d*)(?P<precision>\.\d+)?(?P<verb>.)", re.DOTALL)


def _printf(template: str, *values: Value) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        verb = match["verb"]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        spec = "%" + match["flags"] + match["width"] + (match["precision"] or "")
        try:
            if verb in "sv":
                return (spec + "s") % go_text(value)
            if verb == "q":
                return (spec + "s") % go_json(go_text(value))
            if verb == "t" and isinstance(value, bool):
                return (spec + "s") % go_text(value)
            if verb in "doxXeEfFgG" and isinstance(value, int | float):
                return str((spec + verb) % value)
        except (TypeError, ValueError):
            return f"%!{verb}({go_text(value)})"
        return f"%!{verb}({go_text(value)})"

    return VERB.sub(one, template)


# -- functions --


def _len(value: Value) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping | Sequence):
        return len(value)
    raise TemplateError(f"len of type {type_name(value)}")


def type_name(value: Value) -> str:
    """Return the name by which a template's error calls a value's type."""
    if isinstance(value, Row):
        return value.type_name
    names = {bool: "bool", int: "int", float: "float64", str: "string"}
    return names.get(type(value), "interface {}")


def _index(value: Value, *keys: Value) -> Value:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(str(key), "" if isinstance(value, Labels) else None)
        elif isinstance(value, Sequence) and isinstance(key, int):
            if not 0 <= key < len(value):
                raise TemplateError(f"index out of range: {key}")
            value = value[key]
        else:
            raise TemplateError(f"can't index item of type {type_name(value)}")
    return value


def _slice(value: Value, start: Value = 0, end: Value = None) -> Value:
    ends = (start, len(value) if end is None and isinstance(value, Sequence) else end)
    if not isinstance(value, Sequence) or not all(isinstance(at, int) for at in ends):
        raise TemplateError(f"can't slice item of type {type_name(value)}")
    first, last = (at for at in ends if isinstance(at, int))
    if not 0 <= first <= last <= len(value):
        raise TemplateError(f"index out of range: {last}")
    return value[first:last]


def truth(value: Value) -> bool:
    """Tell whether a value counts as true: neither zero, nor nil, nor empty."""
    return bool(value)


def _equal(first: Value, *others: Value) -> bool:
    if not others:
        raise TemplateError("missing argument for comparison")
    return any(first == other for other in others)


def _order(first: Value, second: Value) -> int:
    if isinstance(first, str) and isinstance(second, str):
        return (first > second) - (first < second)
    if isinstance(first, int | float) and isinstance(second, int | float):
        return (first > second) - (first < second)
    raise TemplateError("incompatible types for comparison")


def _join(items: Value, separator: str) -> str:
    if isinstance(items, str) or not isinstance(items, Sequence):
        raise TemplateError("wrong type for value; expected []string")
    return separator.join(go_text(item) for item in items)


def _print(*values: Value) -> str:
    """As Go's Sprint: a space between operands where neither is a string."""
    text = ""
    for at, value in enumerate(values):
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            text += " "
        text += go_text(value, nested=True)
    return text


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else ""


FUNCTIONS: dict[str, Callee] = {
    "json": go_json,
    "split": lambda text, separator: text.split(separator) if separator else list(text),
    "join": _join,
    "title": lambda text: re.sub(r"(?<!\w)\w", lambda m: m.group().upper(), text),
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "pad": _pad,
    "truncate": lambda text, length: text[:length],
    "print": _print,
    "println": lambda *values: " ".join(go_text(value, nested=True) for value in values) + "\n",
    "printf": _printf,
    "len": _len,
    "index": _index,
    "slice": _slice,
    "not": lambda value: not truth(value),
    "eq": _equal,
    "ne": lambda first, second: first != second,
    "lt": lambda first, second: _order(first, second) < 0,
    "le": lambda first, second: _order(first, second) <= 0,
    "gt": lambda first, second: _order(first, second) > 0,
    "ge": lambda first, second: _order(first, second) >= 0,
}

# A header goes through the same template; what would take a title to pieces leaves it whole.
HEADER_FUNCTIONS: dict[str, Callee] = FUNCTIONS | {
    name: lambda text, *_: text
    for name in ("json", "split", "join", "title", "lower", "upper", "truncate")
}
