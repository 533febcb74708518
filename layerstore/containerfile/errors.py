"""The error of a Containerfile: it names the file and the line, and shows the line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from layerstore.errors import StoreError, shown
from unionfs.light_typing import NamedTuple


class Location(NamedTuple):
    """The place of an instruction: its file, its first and last line (from 1), and its text.

    `text` is the instruction as written, with continuation lines joined, without heredocs.
    """

    file: str
    line: int
    last: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class ContainerfileError(StoreError):
    """A Containerfile, or an instruction in it, is not valid.

    `at` is the instruction's place, None for a fault of the file as a whole; `reason` is
    the sentence without the place.
    """

    def __init__(self, at: Location | None, reason: str) -> None:
        super().__init__(reason if at is None else f"{shown(str(at))}: {reason}{_line(at)}")
        self.at = at
        self.reason = reason


class UnknownInstruction(ContainerfileError):
    """There is no instruction `name`; `hint` follows it in the text."""

    def __init__(self, at: Location, name: str, hint: str = "") -> None:
        super().__init__(at, f"unknown instruction: {shown(name)}{hint}")
        self.name = name


@contextmanager
def located(at: Location) -> Iterator[None]:
    """Say in each StoreError that comes from within at which instruction it happened."""
    try:
        yield
    except ContainerfileError:
        raise
    except StoreError as error:
        raise ContainerfileError(at, str(error)) from error


def _line(at: Location) -> str:
    return f"\n  {shown(at.text.strip())}" if at.text.strip() else ""
