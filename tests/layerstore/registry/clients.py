"""Clients for tests: with directories of their own, and without waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from layerstore.oci.digest import sha256_digest
from layerstore.oci.documents import OCI_LAYER, Descriptor
from layerstore.registry.client import Client
from layerstore.registry.config import Configuration
from layerstore.registry.credentials import Credentials, OneLogin
from layerstore.registry.retries import Retries
from layerstore.registry.transport import Timeouts
from tests.layerstore.registry.locations import places

AT_ONCE = Retries(tries=4, first=0.001, longest=0.01)
ONCE = Retries(tries=1)
SHORT = Timeouts(connect=5, answer=20, stored=20, idle=20)
# For hosts that are slow on purpose; an honest one may be as slow on a busy machine.
IMPATIENT = replace(SHORT, idle=1, window=0.2, least=1000)


@contextmanager
def opened(
    base: Path,
    credentials: Credentials | None = None,
    retries: Retries = AT_ONCE,
    timeouts: Timeouts | None = None,
    warnings: list[str] | None = None,
) -> Iterator[Client]:
    """Open a client that knows nothing of this machine."""
    with Client(
        configuration=Configuration.read(places(base)),
        credentials=OneLogin(credentials),
        retries=retries,
        timeouts=timeouts,
        warn=None if warnings is None else warnings.append,
    ) as client:
        yield client


def described(data: bytes, kind: str = OCI_LAYER) -> Descriptor:
    """Return the descriptor of some content."""
    return Descriptor(kind, sha256_digest(data), len(data))
