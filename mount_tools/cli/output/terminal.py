"""Escape control characters in text from images: names, labels, history, paths.

A terminal obeys control characters, so an image could retitle the window, hide lines or
type commands.  On a terminal they are shown escaped, as `\\u001b`, which a JSON parser can
read.  A pipe or a file gets the text unchanged, as with docker.

Bidirectional overrides are escaped too: they make a name look like another one.
"""

from __future__ import annotations

from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from typing import TextIO

# C0 without tab and line feed, DEL, C1, and characters that change the direction of text.
_CONTROLS = "[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
_LINES = str.maketrans({"\n": r"\n", "\t": r"\t"})


def escaped(text: str) -> str:
    """Return `text` with control characters escaped, except line feeds and tabs."""
    import re  # here, as few commands print to a terminal what came with an image

    return re.sub(_CONTROLS, _escape, text)


def one_line(text: str) -> str:
    """Return `text` with control characters escaped, line feeds and tabs included."""
    return escaped(text).translate(_LINES)


def for_stream(text: str, stream: TextIO) -> str:
    """Return `text`, escaped if `stream` is a terminal."""
    return escaped(text) if stream.isatty() else text


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    # A byte of a file name that is not UTF-8.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
