"""The values that a template works on, and how Go prints them.

A value is what JSON has: there are no structs, methods or typed integers.

Source: Go `fmt/print.go`, `encoding/json/encode.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layerstore.light_json import dumps
from mount_tools.cli.errors import TemplateError
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import ClassVar, TypeAlias

Value: TypeAlias = "bool | int | float | str | Sequence[Value] | Mapping[str, Value] | None"

# More than real images have, and far below Python's own limit of recursion.
MAX_DEPTH = 100


class Row(dict[str, "Value"]):
    """One line of a listing; a template sees a struct of the Go type `type_name`."""

    type_name = "*formatter.context"


class Labels(dict[str, "Value"]):
    """Go's map[string]string: a missing key gives an empty string, not an error."""


class Struct(dict[str, "Value"]):
    """An object that also has the fields `omitted`, which its JSON leaves out as they are empty.

    That is what `omitempty` does in Go.
    """

    omitted: ClassVar[Mapping[str, Value]] = {}


def go_text(value: Value, *, nested: bool = False, depth: int = 0) -> str:
    """Return a value as Go's `%v` prints it.  Raises TemplateError if it is nested too deeply."""
    if depth > MAX_DEPTH:
        raise TemplateError(f"value is nested more than {MAX_DEPTH} levels deep")
    if value is None:
        return "<nil>" if nested else "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        pairs = [
            f"{key}:{go_text(value[key], nested=True, depth=depth + 1)}" for key in sorted(value)
        ]
        return f"map[{' '.join(pairs)}]"
    if isinstance(value, Sequence):
        return f"[{' '.join([go_text(item, nested=True, depth=depth + 1) for item in value])}]"
    return str(value)


def go_json(value: Value) -> str:
    """Return a value as Go's encoder writes it: a row is sorted, `<`, `>` and `&` are escaped.

    Raises TemplateError if the value is nested too deeply.
    """
    row = isinstance(value, Row)
    try:
        text = dumps(value, ascii_only=False, compact=True, sort_keys=row)
    except RecursionError:
        raise TemplateError("value is nested too deeply to be printed as JSON") from None
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    if row:
        for character in "<>&":
            text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def to_bytes(text: str) -> bytes:
    """Return `text` in UTF-8, since Go measures bytes; bytes of file names are unchanged."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # JSON can have "\ud800", half of a surrogate pair, which UTF-8 cannot encode.
        return text.encode("utf-8", "surrogatepass")


def from_bytes(data: bytes) -> str:
    """Return bytes as text; the bytes of an incomplete character are printed unchanged."""
    return data.decode("utf-8", "surrogateescape")


def type_name(value: Value) -> str:
    """Return the name of a value's type, as errors of templates show it."""
    if isinstance(value, Row):
        return value.type_name
    names = {bool: "bool", int: "int", float: "float64", str: "string", type(None): "nil"}
    return names.get(type(value), "interface {}")


def truth(value: Value) -> bool:
    """Return whether a value counts as true: neither zero, nor nil, nor empty."""
    return bool(value)


def is_integer(value: Value) -> bool:
    """Return whether a value is an integer; in Go a boolean is not."""
    return isinstance(value, int) and not isinstance(value, bool)
