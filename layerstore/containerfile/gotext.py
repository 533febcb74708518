"""Go's `%q`, with which docker writes a command or a health check into an image's history.

Source: Go `strconv.Quote`, `strconv.QuoteRune`.
"""

from __future__ import annotations

from collections.abc import Iterable

from layerstore.oci.durations import MILLISECOND, SECOND

_SHORT = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}


def quote(text: str) -> str:
    """Return `text` as a Go string literal."""
    return '"' + "".join('\\"' if c == '"' else _escaped(c) for c in text) + '"'


def quote_rune(number: int) -> str:
    """Return the code point `number` as a Go character literal."""
    char = chr(number) if number < 0x110000 else "\ufffd"
    return "'" + ("\\'" if char == "'" else _escaped(char)) + "'"


def quote_list(words: Iterable[str]) -> str:
    """Return a list of strings as `%q` writes a slice."""
    return "[" + " ".join(map(quote, words)) + "]"


def duration(ns: int) -> str:
    """Return `ns`, which is not negative, as Go's time.Duration prints it: `1m30s`, `1.5s`."""
    if ns == 0:
        return "0s"
    if ns < SECOND:
        for unit, size in (("ms", MILLISECOND), ("µs", 1_000), ("ns", 1)):
            if ns >= size:
                return _decimal(ns, size) + unit
    minutes, rest = divmod(ns, 60 * SECOND)
    text = _decimal(rest, SECOND) + "s"
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(number: int, unit: int) -> str:
    whole, rest = divmod(number, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0")


def _escaped(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char == " " or (char.isprintable() and not 0xD800 <= ord(char) < 0xE000):
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
