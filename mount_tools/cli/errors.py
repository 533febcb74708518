"""Errors of a command line; those of the store are `StoreError`."""

from __future__ import annotations


class WrongWords(Exception):
    """The command line is wrong.  Holds the whole text for stderr, and the exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.message = text
        self.status = status


class Exit(Exception):
    """The command ends with that exit status; everything has been said."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class TemplateError(Exception):
    """A template cannot be parsed or does not fit the data; the text is Go's."""
