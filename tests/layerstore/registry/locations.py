"""Directories for a user of tests, in place of those of this machine."""

from __future__ import annotations

from pathlib import Path

from layerstore.registry.locations import Locations


def places(base: Path, **environment: str) -> Locations:
    """Return locations below `base`, as of root with HOME=base/home."""
    return Locations.of_user({"HOME": str(base / "home"), **environment}, base)


def write(path: Path, text: str) -> Path:
    """Write a file, and make its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
