"""Errors of a command line; those of the store are `StoreError`."""

from __future__ import annotations

import click


class WrongWords(click.ClickException):
    """The command line is wrong.  Holds the whole text for stderr, and the exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class TemplateError(Exception):
    """A template cannot be parsed or does not fit the data; the text is Go's."""
