"""What the builder wants of a build cache, whoever keeps it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from layerstore.oci.digest import Digest


class CachedStep(NamedTuple):
    """A step that was done: when, its history entry, and the chain_id of its topmost layer.

    `diff_id` is that of its own layer, None if it made none.
    """

    created_ns: int
    created_by: str
    diff_id: Digest | None
    chain: Digest | None


class StepCache(Protocol):
    """Steps by their key."""

    def find(self, key: str) -> CachedStep | None:
        """Return the step of that key, whose layers are there and leased, or None."""

    def keep(self, key: str, step: CachedStep) -> None:
        """Remember a step; part of the caller's transaction."""
