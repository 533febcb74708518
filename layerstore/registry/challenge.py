"""The parser of challenges: the authorization that a registry wants (`WWW-Authenticate`).

A registry may send several headers, and several challenges in one of them.  The schemes and
the names of parameters are case-insensitive, and values may be quoted and contain commas.
A challenge that the parser does not understand must not hide the next one.

Source: RFC 9110 section 11; distribution docs, spec/auth/token.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SPACE = re.compile(r"[ \t]*")
_SEPARATORS = re.compile(r"[ \t,]*")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BARE = re.compile(r'[^\s,"]+')

SUPPORTED = ("basic", "bearer")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: the scheme and the names of the parameters are in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges in the values of all `WWW-Authenticate` headers, in order."""
    return [challenge for header in headers for challenge in _challenges(header)]


def choose(challenges: Iterable[Challenge]) -> Challenge | None:
    """Return the first challenge that can be answered; None if there is none."""
    for challenge in challenges:
        if challenge.scheme in SUPPORTED and (
            challenge.scheme == "basic" or challenge.parameters.get("realm")
        ):
            return challenge
    return None


def _challenges(header: str) -> Iterable[Challenge]:
    found: list[Challenge] = []
    at = 0
    while at < len(header):
        at = _skip(_SEPARATORS, header, at)
        name = _TOKEN.match(header, at)
        if name is None:
            at = _after_comma(header, at)
            continue
        at = _skip(_SPACE, header, name.end())
        if header[at : at + 1] == "=":
            at = _skip(_SPACE, header, at + 1)
            value, at = _value(header, at)
            if found:
                # The first of two equal names wins: the second may be an attempt to override it.
                found[-1].parameters.setdefault(name[0].lower(), value)
            continue
        found.append(Challenge(name[0].lower()))
        token68 = _TOKEN68.match(header, at)
        if token68 is not None and at > name.end():
            at = token68.end()
    return found


def _value(header: str, at: int) -> tuple[str, int]:
    quoted = _QUOTED.match(header, at)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
    bare = _BARE.match(header, at)
    if bare is not None:
        return bare[0], bare.end()
    return "", _after_comma(header, at)


def _skip(pattern: re.Pattern[str], header: str, at: int) -> int:
    found = pattern.match(header, at)
    return at if found is None else found.end()


def _after_comma(header: str, at: int) -> int:
    comma = header.find(",", at)
    return len(header) if comma < 0 else comma + 1
