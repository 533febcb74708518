"""Untrusted JSON: what is accepted as JSON, and typed access to its objects.

Decided here and only here: which texts are JSON.  Only RFC 8259 is accepted:
`NaN` and `Infinity`, which Python would read, are refused, and so are numbers
too large for a float, which other programs cannot read.  Half of a surrogate
pair is read as U+FFFD, as in Go, because no database, terminal or other document
accepts it.

Source: RFC 8259; Go `encoding/json`.
"""

from __future__ import annotations

import math
import re

from layerstore.errors import InvalidImage, LimitExceeded, shown
from layerstore.light_json import Reader

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]
Object = dict[str, JSON]

DOCUMENT_LIMIT = 8 << 20  # bytes

_HIGH, _LOW = r"u[dD][89abAB][0-9a-fA-F]{2}", r"u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = rf"\\(?:{_HIGH}\\{_LOW}|(?P<half>{_HIGH}|{_LOW})|.)"
_LONGEST_INTEGER = 309  # a float has no more digits before its point


def parse_document(data: bytes, what: str) -> Object:
    """Return the JSON object in `data`; raises InvalidImage or LimitExceeded.

    `what` names the document in an error.
    """
    if len(data) > DOCUMENT_LIMIT:
        raise LimitExceeded(f"the {what} is larger than {DOCUMENT_LIMIT >> 20} MiB")
    fields = parse_json(data, what)
    if not isinstance(fields, dict):
        raise InvalidImage(f"the {what} is not a JSON object")
    return fields


def parse_json(data: bytes, what: str) -> JSON:
    """Return the JSON value in `data`; raises InvalidImage."""
    try:
        text = data.decode()
        if r"\u" in text:
            text = re.sub(_ESCAPE, _whole, text, flags=re.DOTALL)
        return loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidImage(f"the {what} is not JSON: {error}") from None


def loads(text: str | bytes) -> JSON:
    """Return the JSON value in `text`; raises ValueError, or RecursionError for deep nesting."""
    found: JSON = _READER.read(text)
    return found


def text_of(fields: Object, name: str) -> str:
    """Return the string in the field `name`, "" if there is none; raises InvalidImage."""
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidImage(f'"{name}" is not text in an image\'s document: {shown(repr(value))}')
    return value


def object_of(fields: Object, name: str) -> Object:
    """Return the object in the field `name`, {} if there is none; raises InvalidImage."""
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidImage(f'"{name}" is not an object in an image\'s document')
    return value


def list_of(fields: Object, name: str) -> list[JSON]:
    """Return the list in the field `name`, [] if there is none; raises InvalidImage."""
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidImage(f'"{name}" is not a list in an image\'s document')
    return value


def _whole(escape: re.Match[str]) -> str:
    return r"\ufffd" if escape["half"] else escape[0]


def _constant(name: str) -> JSON:
    raise ValueError(f"{name} is not a JSON value")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise ValueError(f"an integer of {len(text)} digits is too large")
    return int(text)


_READER = Reader(_constant, _float, _integer)
