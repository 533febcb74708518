"""The table `containers`: its rows, and whether their processes live.

Decided here and only here: the SQL on containers, and the status of one whose process is
gone.  A row says "running" until the end is recorded.  The process that ran the container
(`runner`) does that.  If it was killed before, the next reader of the row records the end:
exit status 137, since the kernel kills a container with its runner, or 255, docker's
"unknown", if the machine was restarted meanwhile.  The time is then that of the reader.

Threading: any thread.  Source: moby `daemon/daemon.go:restore()` for the 255.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from layerstore.db.database import Database, Value
from layerstore.db.processes import ProcessId
from layerstore.errors import StoreError
from unionfs.light_typing import NamedTuple

KILLED = 137
UNKNOWN = 255


class ContainerRow(NamedTuple):
    """A row as it is stored; times are ns since 1970, `config` is JSON."""

    id: str
    name: str
    image: str
    image_name: str
    base: str | None
    config: str
    created_ns: int
    published: int = 0
    status: str = "created"
    exit_code: int | None = None
    pid: int | None = None
    pid_start: int | None = None
    started_ns: int | None = None
    finished_ns: int | None = None
    mount_point: str | None = None
    auto_remove: int = 0
    runner: int | None = None
    runner_start: int | None = None

    @property
    def processes(self) -> list[ProcessId]:
        """The container's process, and the one that waits for its end."""
        pairs = ((self.pid, self.pid_start), (self.runner, self.runner_start))
        return [
            ProcessId(pid, start) for pid, start in pairs if pid is not None and start is not None
        ]

    @property
    def ended_unrecorded(self) -> bool:
        """Whether the row says "running" but neither process lives to record the end."""
        return self.status == "running" and not any(one.alive() for one in self.processes)


_COLUMNS = ", ".join(ContainerRow._fields)
# A path is bytes, and need not be UTF-8, which SQLite's module asks of a text.
_SELECT = f"SELECT {_COLUMNS} FROM containers".replace("mount_point", "CAST(mount_point AS BLOB)")
_PATH = "mount_point = CAST(? AS TEXT)"


def _row(*columns: Value) -> ContainerRow:
    made = ContainerRow(*columns)  # type: ignore[arg-type]  # as the columns are declared
    point: str | bytes | None = made.mount_point
    return made if point is None else made._replace(mount_point=os.fsdecode(point))


class ContainerTable:
    """The containers of a store, as rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, container_id: str) -> ContainerRow | None:
        """Return the container of that full id."""
        return self._first("WHERE id = ?", container_id)

    def named(self, text: str, name: str) -> ContainerRow | None:
        """Return the container whose full id is `text`, else the one called `name`."""
        return self._first("WHERE id = ? OR name = ? ORDER BY id = ? DESC", text, name, text)

    def by_prefix(self, prefix: str) -> list[ContainerRow]:
        """Return up to two containers whose ids begin with the hexadecimal digits `prefix`."""
        return self._select("WHERE id >= ? AND id < ? LIMIT 2", prefix, prefix + "g")

    def all(self) -> list[ContainerRow]:
        """Return every container, the newest first."""
        return self._select("ORDER BY created_ns DESC, id")

    def of_image(self, image: str) -> list[ContainerRow]:
        """Return the containers that were created from `image`, the oldest first."""
        return self._select("WHERE image = ? ORDER BY created_ns, id", image)

    def ids(self) -> set[str]:
        """Return the id of every container."""
        return set(self._database.select(str, "SELECT id FROM containers"))

    def bases(self) -> set[str]:
        """Return the chain_ids that containers are based on."""
        return set(self._database.select(str, "SELECT base FROM containers WHERE base IS NOT NULL"))

    def is_base(self, chain: str) -> bool:
        """Tell whether a container is based on the layer `chain`."""
        return self._database.has("containers", "base = ?", chain)

    def exists(self, container_id: str) -> bool:
        """Tell whether there is a container of that id."""
        return self._database.has("containers", "id = ?", container_id)

    def holder(self, name: str) -> str | None:
        """Return the id of the container of that name."""
        return self._database.first(str, "SELECT id FROM containers WHERE name = ?", (name,))

    def insert(self, row: ContainerRow) -> None:
        """Add a container."""
        marks = ", ".join("?" * len(row))
        self._database.write(f"INSERT INTO containers ({_COLUMNS}) VALUES ({marks})", row)

    def update(self, container_id: str, columns: dict[str, Value], *, durable: bool = True) -> None:
        """Set some columns of a row, if it is still there; see `Database.transaction`."""
        point = columns.get("mount_point")
        if isinstance(point, str):
            columns = {**columns, "mount_point": os.fsencode(point)}
        names = ", ".join(_PATH if name == "mount_point" else f"{name} = ?" for name in columns)
        with self._database.transaction(durable=durable) as tx:
            tx.execute(
                f"UPDATE containers SET {names} WHERE id = ?", (*columns.values(), container_id)
            )

    def delete(self, *container_ids: str) -> None:
        """Delete rows."""
        with self._database.transaction() as tx:
            rows = [(container_id,) for container_id in container_ids]
            tx.executemany("DELETE FROM containers WHERE id = ?", rows)

    def _first(self, rest: str, *values: Value) -> ContainerRow | None:
        rows = self._select(f"{rest} LIMIT 1", *values)
        return rows[0] if rows else None

    def _select(self, rest: str, *values: Value) -> list[ContainerRow]:
        rows = self._database.select(_row, f"{_SELECT} {rest}", values)
        return [self._record_end(row) if row.ended_unrecorded else row for row in rows]

    def _record_end(self, row: ContainerRow) -> ContainerRow:
        """Record that the process of `row` was found gone; return the row as it is then."""
        rebooted = not any(one.of_this_boot() for one in row.processes)
        ended = row._replace(
            status="exited",
            exit_code=UNKNOWN if rebooted else KILLED,
            finished_ns=time.time_ns(),
            pid=None,
            pid_start=None,
            runner=None,
            runner_start=None,
            mount_point=None,
        )
        with suppress(StoreError):  # busy or full: the next reader records it
            # The runner, or another reader, may have recorded it already.
            self._database.write(
                "UPDATE containers SET status = 'exited', exit_code = ?, finished_ns = ?,"
                " pid = NULL, pid_start = NULL, runner = NULL, runner_start = NULL,"
                " mount_point = NULL"
                " WHERE id = ? AND status = 'running' AND pid IS ? AND pid_start IS ?",
                (ended.exit_code, ended.finished_ns, row.id, row.pid, row.pid_start),
            )
            found = self._database.first(_row, f"{_SELECT} WHERE id = ?", (row.id,))
            return found or ended
        return ended
