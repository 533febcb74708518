"""What one call of `pyunion` works with: the store, opened when it is first asked for.

Decided here and only here: how a command that was given several names goes on
after one of them failed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from layerstore.errors import StoreError
from layerstore.store import Store
from mount_tools.cli.output.terminal import for_stream

pass_session = click.pass_obj


class Session:
    """The global options, and the store they lead to."""

    def __init__(self, root: str | None, *, sync: bool = True) -> None:
        self.root = Path(root) if root else None
        self.sync = sync
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The store; what cannot be opened raises StoreError or OSError."""
        if self._store is None:
            self._store = Store.open(self.root, sync=self.sync)
        return self._store

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def each(
        self,
        names: Iterable[str],
        action: Callable[[str], object],
        *,
        harmless: tuple[type[StoreError], ...] = (),
    ) -> None:
        """Do `action` for one name after the other; then say what failed, and exit with 1.

        An error of a `harmless` kind is said all the same but fails nothing.
        """
        errors: list[str] = []
        failed = False
        for name in names:
            try:
                action(name)
            except StoreError as error:
                errors.append(str(error))
                failed = failed or not isinstance(error, harmless)
        for text in errors:
            complain(text)
        if failed:
            raise click.exceptions.Exit(1)


def say(text: str, end: str = "\n") -> None:
    """Print to stdout at once, so that results appear in order.

    On a terminal control characters are escaped.
    """
    print(for_stream(text, sys.stdout), end=end, flush=True)


def note(text: str) -> None:
    """Print a line to stderr; on a terminal control characters are escaped."""
    sys.stdout.flush()
    print(for_stream(text, sys.stderr), file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """Print an error of the store to stderr."""
    note(f"Error: {text}")
