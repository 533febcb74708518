"""Wildcards of COPY and ADD: Go's filepath.Match, one component of a path at a time.

`*` and `?` match no slash, `[a-z]` and `[^a-z]` match a class, and `\\` escapes.

Source: Go `path/filepath.Match`; moby `builder/dockerfile/copy.go`.
"""

from __future__ import annotations

import re
from collections.abc import Callable


class BadPattern(ValueError):
    """A wildcard pattern is not well-formed."""


def has_wildcards(path: str) -> bool:
    """Tell whether `path` is a pattern and not a path."""
    escaped = False
    for char in path:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in "*?[":
            return True
    return False


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return whether a name matches `pattern`, one component; raises BadPattern."""
    compiled = re.compile(_translated(pattern), re.DOTALL)
    return lambda name: compiled.fullmatch(name) is not None


def _translated(pattern: str) -> str:
    # What is between two stars is taken where it is found first, and for good: to try all
    # places would take a time that grows with a power of the length of the name.
    pieces = [""]
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            if pieces[-1] or len(pieces) == 1:
                pieces.append("")
        elif char == "?":
            pieces[-1] += "[^/]"
        elif char == "[":
            one, at = _class(pattern, at)
            pieces[-1] += one
        else:
            if char == "\\":
                char, at = _literal(pattern, at - 1)
            pieces[-1] += re.escape(char)
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    return f"{first}{''.join(f'(?>[^/]*?{piece})' for piece in middle)}[^/]*{last}"


def read_class(pattern: str, at: int) -> tuple[Callable[[str], bool], int]:
    """Return what tells whether a character is in the class after the `[` before `at`.

    Also returns the index of the end of the class.  Raises BadPattern, also for a reversed range,
    which moby's ignore files do not have.
    """
    one, end = _class(pattern, at, reverse=False)
    compiled = re.compile(one, re.DOTALL)
    return lambda char: compiled.fullmatch(char) is not None, end


def _class(pattern: str, at: int, *, reverse: bool = True) -> tuple[str, int]:
    """Return the class after the `[` before `at`, and the index of its end."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges = ""
    first = True
    while first or pattern[at : at + 1] != "]":
        first = False
        low, at = _bound(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _bound(pattern, at + 1)
        # A reversed range, such as z-a, matches nothing.
        if low > high and not reverse:
            raise BadPattern(pattern)
        if low <= high:
            ranges += f"{re.escape(low)}-{re.escape(high)}"
    if not ranges:
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{ranges}]", at + 1


def _bound(pattern: str, at: int) -> tuple[str, int]:
    """Return the bound of a range at `at`, and the index after it, which is in the pattern."""
    if pattern[at : at + 1] in ("-", "]", ""):
        raise BadPattern(pattern)
    bound, at = _literal(pattern, at)
    if at >= len(pattern):
        raise BadPattern(pattern)
    return bound, at


def _literal(pattern: str, at: int) -> tuple[str, int]:
    """Return the character at `at`, which may be escaped, and the index after it."""
    if pattern[at] == "\\":
        at += 1
        if at >= len(pattern):
            raise BadPattern(pattern)
    return pattern[at], at + 1
