"""Leases, which keep what work in progress needs from being collected.

A lease is a row that names the process that holds it; it ends with the `with`
block or with the process.  If a lease is left after its process, the next
opening of the store learns from it which work was interrupted, and the names of what
that work may have left.  Nothing else is removed as left over.

Kinds:
    work       something is being made; `key` says what, for people.  Everything that
               the process publishes while it holds this lease is leased with it.
    layer      the layer of that chain_id is needed, and so are those beneath it
    blob       the blob of that digest is needed
    container  the container of that id is being made
    volume     the volume is being made; its key is volumes/NAME
    gone       the layer, blob, container or volume of that key has no row any more, and is
               being removed

Threading: one `Leases` serves all threads of a process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from layerstore.db.database import Database
from layerstore.db.processes import ProcessId, this_process
from layerstore.errors import StoreError
from unionfs.light_typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import sqlite3

Kind = Literal["work", "layer", "blob", "container", "volume", "gone"]
_NOBODY = ProcessId(0, 0)
_KEEPS = ("layer", "blob")


class Lease(NamedTuple):
    """A lease, as its row in the database."""

    id: int
    within: int | None
    kind: str
    key: str
    holder: ProcessId


class Leases:
    """The leases of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._works: list[tuple[int, int]] = []  # (pid, id): a fork inherits the list
        self.recover: Callable[[], object] = lambda: None

    @contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Hold a lease for work that only reads the store.

        None can be recorded in a store that we may not write to: there another process, which
        may write, could remove what is read.
        """
        if self._database.read_only:
            yield
            return
        with self.lease("work", key):
            yield

    @contextmanager
    def lease(self, kind: Kind, key: str) -> Iterator[int]:
        """Hold a lease; yields its id.

        If the work fails, the lease loses its holder and `recover` undoes what the
        work made; if that fails too, the next opening of the store does it.
        """
        # It matters to other processes, and only its keys are needed after a crash: see `hold`.
        with self._database.transaction(durable=False) as tx:
            number = _insert(tx, None, kind, key)
        work = (os.getpid(), number)
        if kind == "work":
            self._works.append(work)
        try:
            yield number
        except BaseException:
            # A lease that stays ends with this process.  Report the first error, not this one.
            with suppress(StoreError, OSError):
                self._leave(work)
            raise
        with suppress(StoreError):  # the work is done; the lease then ends with this process
            self._end(work)

    def _end(self, work: tuple[int, int]) -> None:
        if work in self._works:
            self._works.remove(work)
        # If this is lost in a crash, the next opening of the store does it.
        with self._database.transaction(durable=False) as tx:
            tx.execute("DELETE FROM leases WHERE id = ?", work[1:])

    def _leave(self, work: tuple[int, int]) -> None:
        if not self._database.has("leases", "within = ?", *work[1:]):
            self._end(work)
            return
        if work in self._works:
            self._works.remove(work)
        self._database.write(
            "UPDATE leases SET pid = ?, pid_start = ? WHERE id = ? OR within = ?",
            (*_NOBODY, work[1], work[1]),
        )
        if not self._database.connection.in_transaction:
            self.recover()

    def hold(self, kind: Kind, *keys: str, durable: bool = True) -> None:
        """Lease `keys` within every work that this process has under way.

        `durable` is that of `Database.transaction`.
        """
        pid = os.getpid()
        if self._works and keys:
            with self._database.transaction(durable=durable) as tx:
                # Within the transaction: another thread may be about to end a work.
                for number in [number for owner, number in self._works if owner == pid]:
                    for key in keys:
                        _insert(tx, number, kind, key)

    def afterwards(self, *keys: str) -> list[Lease]:
        """Let a later opening of the store check `keys` again, which cannot be removed yet.

        Part of the caller's transaction.  The leases that record it have no holder; they are
        returned.
        """
        with self._database.transaction() as tx:
            return [
                Lease(_insert(tx, None, "gone", key, _NOBODY), None, "gone", key, _NOBODY)
                for key in keys
            ]

    def stale(self) -> list[Lease]:
        """Return the leases whose process is gone."""
        return [lease for lease in self.all() if not lease.holder.alive()]

    def all(self) -> list[Lease]:
        """Return every lease, stale ones included."""
        return self._database.select(
            lambda number, within, kind, key, *holder: Lease(
                number, within, kind, key, ProcessId(*holder)
            ),
            "SELECT id, within, kind, key, pid, pid_start FROM leases",
        )

    def kept(self) -> set[str]:
        """Return the layers and blobs that live processes lease."""
        return {lease.key for lease in self.all() if lease.kind in _KEEPS and lease.holder.alive()}

    def named(self) -> set[str]:
        """Return every key of a lease: what is being made, needed or removed."""
        return {lease.key for lease in self.all() if lease.kind != "work"}

    def end(self, leases: list[Lease]) -> None:
        """Remove `leases`, which are stale."""
        with self._database.transaction() as tx:
            tx.executemany("DELETE FROM leases WHERE id = ?", [(lease.id,) for lease in leases])


def _insert(
    tx: sqlite3.Connection,
    within: int | None,
    kind: Kind,
    key: str,
    holder: ProcessId | None = None,
) -> int:
    holder = holder or this_process()
    made = tx.execute(
        "INSERT INTO leases (within, kind, key, pid, pid_start, created_ns)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (within, kind, key, *holder, time.time_ns()),
    ).lastrowid
    assert made is not None
    return made
