"""Points in time as images and commands write them, and as the store keeps them: ns since 1970.

Decided here and only here: which forms of RFC 3339 are read, how one is
written, and what `until=` and its like may say.

Source: RFC 3339; image-spec config.md "created"; docker's `until` filter.
"""

from __future__ import annotations

import re
import time

from layerstore.errors import InvalidImage, StoreError

_SECOND = 1_000_000_000
_LAST = (1 << 63) - 1
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?"
    r"(?:[Zz]|([+-])(\d\d):(\d\d))?"
)
_DURATION = re.compile(r"(\d{1,18}(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}


def parse_timestamp(text: str) -> int:
    """Return the ns of an RFC 3339 `text`; raises InvalidImage.

    The year 1, which Go writes for "no time", is 0; what is later than the
    database can keep, in the year 2262, is then.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise InvalidImage(f'"{text}" is not a time as RFC 3339 writes it')
    year, month, day = (int(part) for part in found.group(1, 2, 3))
    if year < 1970:
        return 0
    hour, minute, second = (int(part or 0) for part in found.group(4, 5, 6))
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        raise InvalidImage(f'"{text}" is not a time as RFC 3339 writes it')
    seconds = _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
    if found[8]:
        offset = int(found[9]) * 3600 + int(found[10]) * 60
        seconds += offset if found[8] == "-" else -offset
    return min(seconds * _SECOND + int((found[7] or "").ljust(9, "0")), _LAST)


def format_timestamp(ns: int) -> str:
    """Return `ns` as RFC 3339 in UTC, with no more digits than it has."""
    seconds, fraction = divmod(ns, _SECOND)
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + digits + "Z"


def parse_until(text: str, now_ns: int) -> int:
    """Return the point in time `text` means: one, or how long before `now_ns`.

    "24h", "1h30m", seconds since 1970 with or without a fraction, or a date
    with or without a time; raises StoreError.
    """
    position = total = 0
    for found in _DURATION.finditer(text):
        if found.start() != position:
            break
        position = found.end()
        total += int(float(found[1]) * _UNITS[found[2]])
    if text and position == len(text):
        return now_ns - total
    seconds = re.fullmatch(r"(\d{1,18})(?:\.(\d{1,9}))?", text)
    if seconds:
        return int(seconds[1]) * _SECOND + int((seconds[2] or "").ljust(9, "0"))
    try:
        return parse_timestamp(text)
    except InvalidImage:
        raise StoreError(
            f'"{text}" is neither a time (2026-01-31T10:00:00Z) nor how long ago (24h, 1h30m)'
        ) from None


def _days(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 to a date of the Gregorian calendar."""
    year -= month <= 2
    era_year = year % 400
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return (
        year // 400 * 146097 + era_year * 365 + era_year // 4 - era_year // 100 + day_of_year
    ) - 719468
