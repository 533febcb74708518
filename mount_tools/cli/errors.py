"""What can be wrong with a command line; what can be wrong with the store is `StoreError`."""

from __future__ import annotations

import click


class WrongWords(click.ClickException):
    """The command line is wrong: the whole of what goes to stderr, and the exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class TemplateError(Exception):
    """The template cannot be read or does not fit the data; the text is Go's."""
