"""How the commands that run something in a container end: as that does, or with why it cannot."""

from __future__ import annotations

from collections.abc import Callable

import click

from layerstore.errors import StoreError
from mount_tools.cli.session import complain
from mount_tools.run_process import REFUSED, CannotStart


def exit_with(action: Callable[[], int]) -> None:
    """Exit as the command that `action` runs does; with 125, 126 or 127 where it does not start."""
    try:
        status = action()
    except CannotStart as error:
        complain(str(error))
        status = error.status
    except StoreError as error:
        complain(str(error))
        status = REFUSED
    raise click.exceptions.Exit(status)
