"""The tables `volumes` and `volume_uses`: the volumes of a store, and the containers they are in.

Decided here and only here: the SQL on volumes.  A volume is in use as long as a container
that shows it exists, running or not.  The rows of a container's uses go with its own row.

Threading: any thread.
"""

from __future__ import annotations

from layerstore.db.database import Database
from unionfs.light_typing import NamedTuple


class VolumeRow(NamedTuple):
    """A volume; `labels` is JSON, None if it was made for a container."""

    name: str
    labels: str | None
    created_ns: int


class UseRow(NamedTuple):
    """A container shows a volume at `target`; see `layerstore.volumes.VolumeUse`."""

    container: str
    target: str
    volume: str
    read_only: int
    named: int
    filled: int


_COLUMNS = ", ".join(VolumeRow._fields)
_USE_COLUMNS = ", ".join(UseRow._fields)


class VolumeTable:
    """The volumes of a store, as rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> VolumeRow | None:
        """Return the volume of that name."""
        return self._database.first(
            VolumeRow, f"SELECT {_COLUMNS} FROM volumes WHERE name = ?", (name,)
        )

    def all(self) -> list[VolumeRow]:
        """Return every volume, by name."""
        return self._database.select(VolumeRow, f"SELECT {_COLUMNS} FROM volumes ORDER BY name")

    def names(self) -> set[str]:
        """Return the name of every volume."""
        return set(self._database.select(str, "SELECT name FROM volumes"))

    def insert(self, row: VolumeRow) -> None:
        """Add a volume."""
        self._database.write(f"INSERT INTO volumes ({_COLUMNS}) VALUES (?, ?, ?)", row)

    def delete(self, name: str) -> None:
        """Delete a volume that no container uses."""
        self._database.write("DELETE FROM volumes WHERE name = ?", (name,))

    def use(self, row: UseRow) -> None:
        """Add a use."""
        marks = ", ".join("?" * len(row))
        self._database.write(f"INSERT INTO volume_uses ({_USE_COLUMNS}) VALUES ({marks})", row)

    def uses_of(self, container: str) -> list[UseRow]:
        """Return the uses of a container, by target."""
        return self._database.select(
            UseRow,
            f"SELECT {_USE_COLUMNS} FROM volume_uses WHERE container = ? ORDER BY target",
            (container,),
        )

    def users(self, name: str) -> list[str]:
        """Return the containers that use a volume, the oldest first."""
        return self._database.select(
            lambda container, _: str(container),
            "SELECT DISTINCT id, created_ns FROM volume_uses JOIN containers ON id = container"
            " WHERE volume = ? ORDER BY created_ns, id",
            (name,),
        )

    def used(self) -> set[str]:
        """Return the names of the volumes that a container uses."""
        return set(self._database.select(str, "SELECT volume FROM volume_uses"))

    def filled(self, container: str, target: str) -> None:
        """Record that the use needs no content of the image any more."""
        self._database.write(
            "UPDATE volume_uses SET filled = 1 WHERE container = ? AND target = ?",
            (container, target),
        )
