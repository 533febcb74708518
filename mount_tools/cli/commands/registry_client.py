"""The client of registries, for the commands that need one.

It is imported when it is opened, so that other commands start faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mount_tools.cli.errors import WrongWords
from mount_tools.cli.invocation import note
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerstore.registry.client import Client


def check_parallel(count: int) -> None:
    """Raise WrongWords unless `count` layers can be transferred at a time."""
    if count < 1:
        raise WrongWords(f"--parallel {count}: at least one layer is transferred at a time", 125)


@contextmanager
def registry_client() -> Iterator[Client]:
    """Yield a client with the configuration of this machine; its warnings go to stderr."""
    from layerstore.registry.client import Client

    with Client(warn=lambda text: note(f"WARNING: {text}")) as client:
        try:
            yield client
        except KeyboardInterrupt:
            client.cancel()
            raise
