"""Times: parse and write those of images and commands; the store has them as ns since 1970.

Decided here and only here: which forms of RFC 3339 are read, how a time is
written, and what the value of an `until` filter means.

Source: RFC 3339; image-spec config.md "created"; docker's `until` filter.
"""

from __future__ import annotations

import re
import time

from layerstore.errors import InvalidImage, StoreError, shown
from layerstore.oci.durations import SECOND, parse_duration

_LAST = (1 << 63) - 1
_RFC3339 = (
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<time>\d\d:\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9})\d*)?)?)?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<hours>\d\d):(?P<minutes>\d\d))?"
)
_SECONDS = r"(\d{1,18})(?:\.(\d{1,9}))?"


def parse_timestamp(text: str) -> int:
    """Return the ns since 1970 of an RFC 3339 `text`; raises InvalidImage.

    A time before 1970 is 0: Go writes the year 1 for "no time".  A time after
    the year 2262, which the database cannot hold, is the last one it can.
    """
    from datetime import UTC, datetime, timedelta

    found = re.fullmatch(_RFC3339, text, re.ASCII)
    if found is None:
        raise _no_time(text)
    second = int(found["second"] or 0)
    hours, minutes = int(found["hours"] or 0), int(found["minutes"] or 0)
    if second > 60 or hours > 23 or minutes > 59:
        raise _no_time(text)
    try:
        at = datetime.fromisoformat(f"{found['date']}T{found['time'] or '00:00'}+00:00")
    except ValueError:
        # Go writes the year 1, other programs the year 0.
        if found["date"].startswith("0000-"):
            return 0
        raise _no_time(text) from None
    offset = (hours * 60 + minutes) * (-60 if found["sign"] == "-" else 60)
    # A leap second is the first second of the next minute.
    seconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) + second - offset
    if at.year < 1970 or seconds < 0:
        return 0
    return min(seconds * SECOND + int((found["fraction"] or "").ljust(9, "0")), _LAST)


def _no_time(text: str) -> InvalidImage:
    return InvalidImage(f'"{shown(text)}" is not a time as RFC 3339 writes it')


def format_timestamp(ns: int) -> str:
    """Return `ns` since 1970 as RFC 3339 in UTC, without trailing zeros in the fraction."""
    seconds, fraction = divmod(ns, SECOND)
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + digits + "Z"


def parse_until(text: str, now_ns: int) -> int:
    """Return the ns since 1970 that `text` means: a time, or a duration before `now_ns`.

    `text` is a duration ("24h", "1h30m"), seconds since 1970 with or without a
    fraction, or a date with or without a time.  Raises StoreError.
    """
    duration = parse_duration(text)
    if duration is not None:
        return now_ns - duration
    seconds = re.fullmatch(_SECONDS, text, re.ASCII)
    if seconds:
        return int(seconds[1]) * SECOND + int((seconds[2] or "").ljust(9, "0"))
    try:
        return parse_timestamp(text)
    except InvalidImage:
        raise StoreError(
            f'"{shown(text)}" is neither a time (2026-01-31T10:00:00Z) nor a duration (24h, 1h30m)'
        ) from None
