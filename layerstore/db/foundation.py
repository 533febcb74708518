"""What every part of a store stands on, and what the parts with directories have in common.

Decided here and only here: which directories are left over.  A directory is moved into its
place, or out of it, only in the transaction that changes its row, so in a transaction one
without a row has no owner, unless a lease names it.

Threading: any thread.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from layerstore.db.database import Database
from layerstore.db.durability import Durability
from layerstore.db.leases import Leases
from layerstore.db.staging import StagingArea
from unionfs.light_typing import NamedTuple


class Foundation(NamedTuple):
    """The directory `root` of a store, its rows and leases, and how its files are made."""

    root: Path
    database: Database
    staging: StagingArea
    durability: Durability
    leases: Leases


class Part:
    """A part of a store, with what it stands on."""

    def __init__(self, foundation: Foundation) -> None:
        self._root = foundation.root
        self._database = foundation.database
        self._staging = foundation.staging
        self._durability = foundation.durability
        self._leases = foundation.leases


class DirectoryPart(Part, ABC):
    """A part with a directory for each of its rows, beneath `path`.

    A lease names a directory by `_KEYS` and its name.
    """

    _KEYS = ""

    def __init__(self, foundation: Foundation, directory: str) -> None:
        super().__init__(foundation)
        self.path = foundation.root / directory

    @abstractmethod
    def _has_row(self, name: str) -> bool:
        """Tell whether there is a row of that name."""

    @abstractmethod
    def _row_names(self) -> set[str]:
        """Return the names of all rows."""

    def _discard(self, names: Iterable[str]) -> None:
        """Remove the directories of those of `names` that have no row."""
        for name in names:
            with self._staging.directory() as own, self._database.transaction():
                if not self._has_row(name):
                    with suppress(FileNotFoundError):
                        os.rename(self.path / name, own / name)

    def strays(self) -> list[str]:
        """Return the names of directories that no row and no lease names."""
        with self._database.still():  # no other process is between a rename and its row
            try:
                names = set(os.listdir(self.path))
            except FileNotFoundError:
                return []
            leased = {key.removeprefix(self._KEYS) for key in self._leases.named()}
            return sorted(names - leased - self._row_names())
