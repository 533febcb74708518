"""What every part of a store stands on."""

from __future__ import annotations

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
