"""The client of registries, for the commands that need one.

It is imported when it is opened: no other command pays for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mount_tools.cli.session import note

if TYPE_CHECKING:
    from layerstore.registry.client import Client


@contextmanager
def registry_client() -> Iterator[Client]:
    """Give a client that is configured as this machine says; what it warns of goes to stderr."""
    from layerstore.registry.client import Client

    with Client(warn=lambda text: note(f"WARNING: {text}")) as client:
        try:
            yield client
        except KeyboardInterrupt:
            client.cancel()
            raise
