"""SHA-256 of small data, by the interpreter's own code for it.

hashlib loads OpenSSL, which takes 3 ms: most of what a command needs that reads a few documents.
OpenSSL is six times as fast, so what is large, or of unknown size, is hashed by hashlib.

Source: Python's own random.py, which does the same for SHA-512.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module

from unionfs.light_typing import Protocol

_LARGE = 1 << 17  # bytes; from here on OpenSSL is faster, its loading included
_left = _LARGE  # what `sha256_of` may still give to the interpreter's own code


class Hash(Protocol):
    """A digest that is being computed."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...
    def hexdigest(self) -> str: ...


def sha256_of(data: bytes, size: int) -> Hash:
    """Return the SHA-256 of `data`, which will be updated to `size` bytes.

    For one of many files: OpenSSL hashes what is large in sum.
    """
    global _left
    _left -= size
    return _made_by(large=_left < 0)(data)


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` in 64 hexadecimal digits."""
    return _made_by(large=len(data) >= _LARGE)(data).hexdigest()


@cache
def _made_by(*, large: bool) -> Callable[[bytes], Hash]:
    if not large:
        for name in ("_sha2", "_sha256"):  # from Python 3.12 on, and before
            with suppress(ImportError):
                return import_module(name).sha256  # type: ignore[no-any-return]
    from hashlib import sha256

    return sha256
