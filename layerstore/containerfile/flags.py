"""Flags of instructions: `--name=value`, `--name` for a truth value, and repeated ones.

This module alone decides how a flag is read.  A flag that an instruction does not have is
an error; none is ever ignored.  Source: buildkit `instructions/bflag.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layerstore.containerfile.errors import ContainerfileError, Location
from layerstore.errors import shown
from unionfs.light_typing import Literal

Kind = Literal["truth", "text", "texts"]


class Flags:
    """The flags of one instruction; `kinds` are the flags that the instruction has."""

    def __init__(self, at: Location, given: Sequence[str], kinds: Mapping[str, Kind]) -> None:
        self._given: dict[str, list[str]] = {}
        for word in given:
            name, equals, value = word[2:].partition("=")
            if name not in kinds:
                raise ContainerfileError(
                    at, f"unknown flag: --{shown(name)}{suggestion(name, list(kinds), '--')}"
                )
            kind = kinds[name]
            if name in self._given and kind != "texts":
                raise ContainerfileError(at, f"duplicate flag specified: --{name}")
            if (not equals and kind != "truth") or (equals and not value and kind == "truth"):
                raise ContainerfileError(at, f"missing a value on flag: --{name}")
            if kind == "truth" and value.lower() not in ("", "true", "false"):
                raise ContainerfileError(
                    at, f"expecting boolean value for flag --{name}, not: {shown(value)}"
                )
            self._given.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def text(self, name: str, default: str = "") -> str:
        """Return the value of a flag, `default` if it is not given."""
        return self._given.get(name, [default])[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the values of a flag that may be repeated."""
        return tuple(self._given.get(name, ()))

    def truth(self, name: str) -> bool:
        """Return the truth value of a flag, False if it is not given."""
        return self.text(name, "false").lower() in ("", "true")


def suggestion(word: str, known: Sequence[str], prefix: str = "") -> str:
    """Return ` (did you mean …?)` if one of `known` is similar to `word`, else ""."""
    import difflib  # only an error needs it

    lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower()[:100], lower, 1, 0.7)
    return f" (did you mean {prefix}{lower[near[0]]}?)" if near else ""
