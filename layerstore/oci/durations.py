"""Durations as Go writes them, "1h30m" or "1.5s", in ns.

Decided here and only here: how a duration is read, for `until=` filters and for
the flags of HEALTHCHECK.

Source: Go `time.ParseDuration`.
"""

from __future__ import annotations

import re

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek mu
    "ms": MILLISECOND,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_PART = r"(?P<whole>[0-9]{0,18})(?:\.(?P<fraction>[0-9]{0,18}))?(?P<unit>[a-zµ\u03bc]+)"
_LONGEST = (1 << 63) - 1


def parse_duration(text: str) -> int | None:
    """Return the ns of `text`, a sequence of numbers with units; None if it is no duration."""
    part = re.compile(_PART)
    position = total = 0
    while position < len(text):
        found = part.match(text, position)
        if found is None or found["unit"] not in UNITS:
            return None
        whole, fraction, unit = found["whole"], found["fraction"] or "", UNITS[found["unit"]]
        if not whole and not fraction:
            return None
        total += int(whole or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
        position = found.end()
    return total if text and total <= _LONGEST else None
