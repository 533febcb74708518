"""The grammar of `-o`: where words and values begin and end.

Decided here and only here: quoting and escapes.

- Words are separated by commas; empty words are ignored.
- A backslash takes the next character literally, in every value: `\\,` in any,
  `\\:` in a list of layers, `\\\\` is a backslash.
- A value in double quotes may contain commas: `context="a:b:s0:c1,c2"`.  Only a quote at
  the start of a value is special, so a path that contains one needs no escape.
- `lowerdir=` separates layers by `:`, topmost first, and data-only layers,
  which come last, by `::`.

Source: overlayfs.rst "Multiple lower layers", "Data-only lower layers";
fuse-overlayfs `config.rs`; libmount `optstr.c`.
"""

from __future__ import annotations

from collections.abc import Iterator

from unionfs.light_typing import NamedTuple


class OptionError(Exception):
    """An option that is wrong or unknown; the text is a sentence for the user."""


class Word(NamedTuple):
    """One word of `-o`; `value` is None without `=`, and still has its escapes."""

    name: str
    value: str | None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value}"


# What ends a word: a comma that no backslash and no quoted value holds.  The module of the
# patterns is imported when it is needed, since few options have a backslash or a quote.
_WORD = (
    r'(?P<name>[^,="\\]*)(?:=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>(?!")(?:[^,\\]|\\.)*)))?'
)
_LAYER_OR_SEPARATOR = r"::?|(?:[^:\\]|\\.)+"


def words(text: str) -> Iterator[Word]:
    """Yield the words of one option string.

    Raises `OptionError` for a quote that is not closed or not followed by a
    comma, and for a backslash with nothing behind it.
    """
    if '"' not in text and "\\" not in text:
        for word in text.split(","):
            name, equals, plain = word.partition("=")
            if word:
                yield Word(name, plain if equals else None)
        return
    yield from _quoted_words(text)


def _quoted_words(text: str) -> Iterator[Word]:
    import re

    at = 0
    pattern = re.compile(_WORD, re.DOTALL)
    while at < len(text):
        found = pattern.match(text, at)
        assert found is not None  # every part of the pattern may be empty
        end = found.end()
        if end < len(text) and text[end] != ",":
            raise OptionError(_what_is_wrong(text[at:], text[end:]))
        quoted, plain = found["quoted"], found["plain"]
        value = quoted if quoted is not None else plain
        if found["name"] or value is not None:
            yield Word(found["name"], value)
        at = end + 1


def _what_is_wrong(word: str, rest: str) -> str:
    shown = shortened(word)
    if rest == "\\":
        return f"option {shown!r} ends in a backslash; write \\\\ for a backslash itself"
    if rest.startswith('"') or word.partition("=")[2].startswith('"'):
        return f"the quote in option {shown!r} must be closed and be followed by a comma or the end"
    return f"option {shown!r} is not NAME or NAME=VALUE"


def shortened(text: str, limit: int = 60) -> str:
    """Return `text`, cut to `limit` characters for an error message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def unescaped(value: str) -> str:
    """Return `value` with each `\\c` replaced by `c`."""
    if "\\" not in value:
        return value
    import re

    return re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)


def escaped(value: str, special: str = ",\\") -> str:
    """Return `value` with a backslash before each of the `special` characters."""
    return "".join(f"\\{each}" if each in special else each for each in value)


def split_layers(value: str) -> tuple[list[str], list[str]]:
    """Split the value of `lowerdir=` into its lower layers and its data-only layers.

    Raises `OptionError` for an empty name, and for a `:` behind the first `::`.
    """
    if "\\" in value or "::" in value:
        import re

        tokens = re.findall(_LAYER_OR_SEPARATOR, value, re.DOTALL)
        paths, separators = tokens[::2], ["", *tokens[1::2]]
    else:
        paths = value.split(":")
        separators = ["", *[":"] * (len(paths) - 1)]
    if len(paths) != len(separators) or any(path[:1] in ("", ":") for path in paths):
        raise OptionError(
            f"lowerdir={shortened(value)} names an empty layer; "
            f"layers are separated by one ':', data-only layers by '::'"
        )
    layers: list[str] = []
    data: list[str] = []
    for separator, path in zip(separators, map(unescaped, paths), strict=True):
        if separator == "::":
            data.append(path)
        elif data:
            raise OptionError(
                f"in lowerdir={shortened(value)} the layer {path!r} follows data-only layers; "
                f"data-only layers come last, each behind '::'"
            )
        else:
            layers.append(path)
    return layers, data
