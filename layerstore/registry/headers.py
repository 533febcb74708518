"""The parsers of the headers of the distribution protocol.

Each function returns None, or the value that its docstring names, for a header that does
not fit its grammar; the caller decides what that means.

Source: RFC 9110 (Content-Range, Retry-After, Content-Type), RFC 8288 (Link),
distribution-spec "Pulling blobs", "Pushing a blob in chunks", "Listing tags".
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime

from unionfs.light_typing import NamedTuple

_DIGITS = 18  # a number with more digits is not the size of a file
_CONTENT_RANGE = re.compile(
    rf"bytes ([0-9]{{1,{_DIGITS}}})-([0-9]{{1,{_DIGITS}}})/([0-9]{{1,{_DIGITS}}}|\*)"
)
_UPLOADED = re.compile(rf"(?:bytes=)?0-([0-9]{{1,{_DIGITS}}})")
_SECONDS = re.compile(r"[0-9]{1,9}")
_LIMIT = re.compile(r"([0-9]{1,9})(?:;w=[0-9]+)?")
_LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[^\s;,="]+(?:\s*=\s*(?:"[^"]*"|[^\s;,"]*))?)*)')
_PARAMETER = re.compile(r';\s*([^\s;,="]+)(?:\s*=\s*(?:"([^"]*)"|([^\s;,"]*)))?')
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


class Headers:
    """The headers of one answer: names in any case, in the order in which they came."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = [(name.lower(), value) for name, value in pairs]

    def get(self, name: str) -> str | None:
        """Return the first value of the header `name`."""
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> list[str]:
        """Return every value of the header `name`."""
        wanted = name.lower()
        return [value for key, value in self._pairs if key == wanted]


class ContentRange(NamedTuple):
    """The bytes `first` to `last` of a body, of `total` bytes if that is known."""

    first: int
    last: int
    total: int | None


def content_range(text: str | None) -> ContentRange | None:
    """Return which part of a blob is in an answer with the status 206."""
    found = _CONTENT_RANGE.fullmatch((text or "").strip())
    if found is None:
        return None
    first, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    if first > last or (total is not None and last >= total):
        return None
    return ContentRange(first, last, total)


def uploaded(text: str | None) -> int | None:
    """Return how many bytes of an upload the registry has, according to `Range`.

    The registry "distribution" answers `0-0` both for no byte and for one byte.  It counts
    as none here: the registry answers 416 if it gets a byte twice, but it does not notice
    a missing byte.
    """
    found = _UPLOADED.fullmatch((text or "").strip())
    if found is None:
        return None
    last = int(found[1])
    return last + 1 if last else 0


def length(text: str | None) -> int | None:
    """Return the number of bytes in a `Content-Length`."""
    stripped = (text or "").strip()
    return int(stripped) if re.fullmatch(rf"[0-9]{{1,{_DIGITS}}}", stripped) else None


def retry_after(text: str | None, now: float | None = None) -> float | None:
    """Return the seconds to wait from a `Retry-After`, which holds seconds or a date.

    Returns None for a date in the past.
    """
    stripped = (text or "").strip()
    if _SECONDS.fullmatch(stripped):
        return float(stripped)
    try:
        date = parsedate_to_datetime(stripped)
        seconds = date.timestamp() - (time.time() if now is None else now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return seconds if seconds > 0 else None


def next_page(links: Iterable[str]) -> str | None:
    """Return the address of the next page that the `Link` headers name, as it is written."""
    for text in links:
        for link in _LINK.finditer(text):
            for parameter in _PARAMETER.finditer(link[2]):
                relations = (parameter[2] or parameter[3] or "").lower().split()
                if parameter[1].lower() == "rel" and "next" in relations:
                    return link[1].strip() or None
    return None


def media_type(text: str | None) -> str:
    """Return the type of a `Content-Type` without its parameters, in lower case."""
    return (text or "").partition(";")[0].strip().lower()


def pulls_left(text: str | None) -> int | None:
    """Return how many pulls `ratelimit-remaining` says are left, as in `76;w=21600`."""
    found = _LIMIT.fullmatch((text or "").strip())
    return int(found[1]) if found else None


def warnings(values: Iterable[str]) -> list[str]:
    """Return the texts of the `Warning` headers that are for users (code 299)."""
    return [
        re.sub(r"\\(.)", r"\1", found[1]) for value in values for found in _WARNING.finditer(value)
    ]
