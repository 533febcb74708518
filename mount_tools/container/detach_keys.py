"""The keys that detach from a running container: ctrl-p,ctrl-q.

Source: docker-attach(1) "--detach-keys"; moby/term `ascii.go`, `proxy.go`.
"""

from __future__ import annotations

from layerstore.errors import StoreError

DEFAULT = "ctrl-p,ctrl-q"
_WITH_CONTROL = "abcdefghijklmnopqrstuvwxyz@[\\]^_"


def parse_keys(text: str) -> bytes:
    """Return what a terminal sends for the keys `text`, such as "ctrl-p,ctrl-q"; b"" for none.

    Raises StoreError.
    """
    keys = bytearray()
    for key in text.split(",") if text else ():
        control = key.removeprefix("ctrl-")
        if len(key) == 1 and key.isascii():
            keys += key.encode()
        elif control != key and len(control) == 1 and control in _WITH_CONTROL:
            keys.append(ord(control.upper()) & 0x1F)
        else:
            raise StoreError(
                f"Unknown character: '{key}': detach keys are characters and ctrl- with a "
                "letter or one of @[\\]^_, with commas between them"
            )
    return bytes(keys)


class DetachKeys:
    """Finds the keys in what is typed."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """Return the bytes for the command, and whether the keys were typed.

        The first of the keys are held back until it is clear that the others do not follow.
        """
        if not self._keys:
            return typed, False
        passed = bytearray()
        for number in typed:
            self._held += bytes((number,))
            while self._held and not self._keys.startswith(self._held):
                passed.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._keys:
                self._held = b""
                return bytes(passed), True
        return bytes(passed), False
