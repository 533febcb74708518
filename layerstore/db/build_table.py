"""The tables `build_steps`, `file_digests`, `containerfiles`: what a build need not do again.

A step is known by a key, the hash of all that it depends on; its layers stay as long as it
is known.  The digest of a file's content is known by the file's identity and times.  What a
Containerfile parses to is known by the hash of its text and of what parses it.

Threading: any thread; a `FileDigests` belongs to one.
"""

from __future__ import annotations

from contextlib import suppress

from layerstore.db.database import Database
from layerstore.errors import StoreError
from layerstore.oci.digest import Digest
from unionfs.light_typing import NamedTuple

MOST_FILES = 1_000_000
BATCH = 10_000
MOST_PARSED = 200
LONGEST_PARSED = 1 << 16  # characters


class StepRow(NamedTuple):
    """A step that was done: when, its history entry, and the chain_id that it led to.

    `diff_id` is that of its own layer, None if it made none.
    """

    created_ns: int
    created_by: str
    diff_id: Digest | None
    chain: Digest | None


class FileKey(NamedTuple):
    """What a file's digest is known by; `header` is a hash of its name, mode and owner."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int
    header: bytes


class BuildTable:
    """The steps of the build cache, as rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def step(self, key: str) -> StepRow | None:
        """Return the step of that key: one indexed look-up."""
        return self._database.first(
            lambda created_ns, created_by, diff_id, chain: StepRow(
                created_ns, created_by, diff_id and Digest(diff_id), chain and Digest(chain)
            ),
            "SELECT created_ns, created_by, diff_id, chain FROM build_steps WHERE key = ?",
            (key,),
        )

    def keep(self, key: str, row: StepRow) -> None:
        """Remember a step, whose layers have their rows; an older one of that key goes."""
        self._database.write(
            "INSERT INTO build_steps (key, created_ns, created_by, diff_id, chain)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET created_ns = excluded.created_ns,"
            " created_by = excluded.created_by, diff_id = excluded.diff_id,"
            " chain = excluded.chain",
            (key, *row),
        )

    def is_top(self, chain: Digest) -> bool:
        """Tell whether a step led to that chain."""
        return self._database.has("build_steps", "chain = ?", chain)

    def tops(self) -> set[str]:
        """Return the chains that steps led to."""
        return set(
            self._database.select(
                str, "SELECT DISTINCT chain FROM build_steps WHERE chain IS NOT NULL"
            )
        )

    def chains(self) -> list[Digest | None]:
        """Return the chain that each step led to."""
        return self._database.select(
            lambda chain: chain and Digest(chain), "SELECT chain FROM build_steps"
        )

    def forget(self, kept: set[str], until_ns: int | None = None) -> int:
        """Forget the steps that led to chains other than `kept`; return how many.

        Those that were done after `until_ns` stay.  Steps without layers go with the others.
        """
        with self._database.transaction() as tx:
            rows = tx.execute(
                "SELECT key, chain FROM build_steps WHERE created_ns <= ?",
                (1 << 62 if until_ns is None else until_ns,),
            ).fetchall()
            gone = [(key,) for key, chain in rows if chain not in kept]
            tx.executemany("DELETE FROM build_steps WHERE key = ?", gone)
        return len(gone)


class FileDigests:
    """Digests of files; what is kept is written by `flush`, and when there is much of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._new: list[tuple[int, int, bytes, int, int, int, bytes]] = []

    def find(self, known: FileKey) -> bytes | None:
        """Return the digest of a file that has not changed."""
        found = self._database.connection.execute(
            "SELECT digest FROM file_digests WHERE dev = ? AND ino = ? AND header = ?"
            " AND size = ? AND mtime_ns = ? AND ctime_ns = ?",
            (
                _signed(known.dev),
                _signed(known.ino),
                known.header,
                known.size,
                known.mtime_ns,
                known.ctime_ns,
            ),
        ).fetchone()
        return None if found is None else bytes(found[0])

    def keep(self, known: FileKey, digest: bytes) -> None:
        """Remember the digest of a file."""
        dev, ino, size, mtime_ns, ctime_ns, header = known
        self._new.append((_signed(dev), _signed(ino), header, size, mtime_ns, ctime_ns, digest))
        if len(self._new) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what was kept; of too many digests the oldest go."""
        if not self._new:
            return
        with self._database.transaction() as tx:
            tx.executemany(
                "REPLACE INTO file_digests (dev, ino, header, size, mtime_ns, ctime_ns, digest)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                self._new,
            )
            tx.execute(
                "DELETE FROM file_digests WHERE id <= (SELECT max(id) FROM file_digests) - ?",
                (MOST_FILES,),
            )
        self._new.clear()


class ParsedFiles:
    """What Containerfiles parse to, as `layerstore.containerfile.grammar.Memo`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, key: str) -> str | None:
        """Return what was kept of `key`."""
        return self._database.first(str, "SELECT parsed FROM containerfiles WHERE key = ?", (key,))

    def keep(self, key: str, parsed: str) -> None:
        """Remember `parsed`, unless it is long; of too many the oldest go."""
        if len(parsed) > LONGEST_PARSED:
            return
        # On a full disk the build says by itself what does not fit.
        with suppress(StoreError), self._database.transaction() as tx:
            tx.execute("REPLACE INTO containerfiles (key, parsed) VALUES (?, ?)", (key, parsed))
            tx.execute(
                "DELETE FROM containerfiles WHERE id <= (SELECT max(id) FROM containerfiles) - ?",
                (MOST_PARSED,),
            )


def _signed(number: int) -> int:
    """Return a device or inode number as SQLite's 64 bits hold it."""
    return number - (1 << 64) if number >= 1 << 63 else number
