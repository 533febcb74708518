"""How sizes, ages, ids and long texts are shown.

Source: docker/go-units `size.go`, `duration.go`; docker/cli `cli/command/formatter`.
Differs from go-units: a size that rounds to 1000 takes the next unit; Go's
`%.3g` would print `1e+03`.
"""

from __future__ import annotations

import time

from layerstore.oci.durations import SECOND

UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
SHORT_ID = 12
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def human_size(size: int, digits: int = 4) -> str:
    """Return a number of bytes in decimal units with at most `digits` significant digits."""
    value = float(size)
    for unit in UNITS[:-1]:
        shown = f"{value:.{digits}g}"
        if value < 1000 and float(shown) < 1000:
            return shown + unit
        value /= 1000
    return f"{value:.{digits}g}{UNITS[-1]}"


def human_duration(seconds: float) -> str:
    """Return a duration in its largest unit, rounded."""
    whole = int(seconds)
    minutes = whole // 60
    hours = int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for unit, length, limit in (("days", 24, 2 * 7), ("weeks", 24 * 7, 2 * 30)):
        if hours < 24 * limit:
            return f"{hours // length} {unit}"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{whole // 3600 // 24 // 365} years"


def age(moment_ns: int, now_ns: int | None = None) -> str:
    """Return how long ago `moment_ns` was, as docker's CREATED column does."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    return f"{human_duration((now_ns - moment_ns) / SECOND)} ago"


def go_time(moment_ns: int) -> str:
    """Return the local time as Go's time.String() prints whole seconds."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(moment_ns // SECOND))


def go_rfc3339(moment_ns: int) -> str:
    """Return the local time in whole seconds as Go prints it in the layout RFC3339."""
    local = time.localtime(moment_ns // SECOND)
    offset = time.strftime("%z", local)
    zone = f"{offset[:3]}:{offset[3:]}" if local.tm_gmtoff else "Z"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + zone


def short_id(identity: str) -> str:
    """Return the short form of an id, 12 hexadecimal digits."""
    return identity.removeprefix("sha256:")[:SHORT_ID]


def ellipsis(text: str, width: int) -> str:
    """Return `text` cut to `width` characters; if it was cut, the last one is an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + ELLIPSIS
