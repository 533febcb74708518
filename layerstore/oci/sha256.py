"""SHA-256 of small data, by the interpreter's own code for it.

hashlib loads OpenSSL, which takes 3 ms: most of what a command needs that reads a few documents.
OpenSSL is six times as fast, so what is large, or of unknown size, is hashed by hashlib.

Source: Python's own random.py, which does the same for SHA-512.
"""

from __future__ import annotations

from importlib import import_module

_LARGE = 1 << 17  # bytes; from here on OpenSSL is faster, its loading included


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` in 64 hexadecimal digits."""
    names = ("hashlib",) if len(data) >= _LARGE else ("_sha2", "_sha256", "hashlib")
    for name in names:  # the first from Python 3.12 on, the second in 3.11
        try:
            found: str = import_module(name).sha256(data).hexdigest()
        except ImportError:
            continue
        return found
    raise RuntimeError("this Python has no SHA-256")
