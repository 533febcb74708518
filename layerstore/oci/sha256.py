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

from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_LARGE = 1 << 17  # bytes; from here on OpenSSL is faster, its loading included


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` in 64 hexadecimal digits."""
    found: str = _made_by(large=len(data) >= _LARGE)(data).hexdigest()
    return found


@cache
def _made_by(*, large: bool) -> Callable[[bytes], Any]:
    if not large:
        for name in ("_sha2", "_sha256"):  # from Python 3.12 on, and before
            with suppress(ImportError):
                return import_module(name).sha256  # type: ignore[no-any-return]
    from hashlib import sha256

    return sha256
