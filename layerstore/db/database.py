"""store.db: SQLite, the only mutable truth of a store.

Decided here and only here: how several processes share it.  Every write is one
BEGIN IMMEDIATE transaction, so no process waits while it holds a lock.  A
writer waits for another one up to `BUSY_SECONDS`; readers see the last commit
and never wait (WAL).  A directory is moved into its place, or out of it, only
in such a transaction.  So in a transaction a directory without a row has no owner.

Each thread has its own connection, and so has each process after a fork.  A
transaction that begins inside another one of the same thread is a part of that.  SQLite keeps one
state per file for all connections of a process, and a child that inherited it
would count its parent's locks as its own.  So the thread that forks closes its
connection before, and parent and child each open a new one when they need it.

SQLite writes to the -shm file through a mapping.  On btrfs that takes space each time, even if
the file has its blocks already, and on a full disk the process gets SIGBUS.  So on btrfs it is
checked that there is space before each transaction, and before each read, which may record its
position in the file.  If there is none, a connection is not closed but left for the kernel to
clean up, because SQLite would write the WAL back.

A store that we may not write to, as on a read-only medium, is only read.  If it has a WAL,
SQLite needs the -shm file beside it.  If it has none, no process had the store open, and SQLite
reads without looking for others.  Another process may still be able to write, so each result
is returned only if store.db did not change meanwhile.

Source: sqlite.org wal.html, uri.html (immutable), lang_transaction.html, howtocorrupt.html 2.6
(fork).
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from layerstore.db import schema
from layerstore.db.durability import Durability
from layerstore.db.reserve import ADVICE, has_room, is_on_btrfs
from layerstore.errors import Busy, DiskFull, StoreError, WrongVersion, shown
from layerstore.oci.json_values import Object, loads
from unionfs.light_typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import sqlite3
else:
    import _sqlite3 as sqlite3  # the same, without what adapts dates: 2 ms

BUSY_SECONDS = 60
_REMEDY = "restore it from a backup, or load the images into another --root"
_FULL = f"no space left on its disk; {ADVICE}"
_READ_ONLY = (
    "its filesystem is mounted read-only; mount it writable, or copy the store to another --root"
)
_MAY_NOT = (
    "this user may not write to it; run the command as its owner, restore the write permission, or "
    "copy the store to another --root"
)
_SHM = 32 << 10  # bytes of the -shm file, which SQLite makes first
_MOMENT = 0.05  # seconds that there is room for after it was found
_left_open: list[object] = []  # connections that cannot be closed

Value = str | int | bytes | None
_Row = TypeVar("_Row")


class _Rehearsed(Exception):
    """Ends a transaction that is only a rehearsal."""


class Database:
    """An open store.db.

    It is `read_only` if this process may not write to it: then every transaction is an error.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        """Open the database `path`, which exists; bring an older schema up to date.

        Raises WrongVersion for a newer one.
        """
        self.path = path
        self.read_only = _is_read_only(path)
        self._sync = sync
        self._unchanged: _Stamp | None = None  # while it is read without looking for others
        self._copies: bool | None = None  # whether each write takes space
        self._has_room_until = 0.0
        self._local = threading.local()
        self._connections: list[tuple[int, sqlite3.Connection]] = []
        _open.add(self)
        try:
            with _sentences(path):
                self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection this process opened."""
        mine, self._connections = self._connections, []
        full = self._is_full() if any(pid == os.getpid() for pid, _ in mine) else False
        for pid, connection in mine:
            if pid == os.getpid():
                if full:
                    _left_open.append(connection)
                else:
                    connection.close()
            else:
                # Inherited over a fork: closing it here would drop the locks of
                # the process that owns it, so it is kept open and out of use.
                self._connections.append((pid, connection))
        self._local = threading.local()

    def let_go(self) -> None:
        """Close the calling thread's connection, unless a transaction is open on it."""
        opened: tuple[int, sqlite3.Connection] | None = getattr(self._local, "opened", None)
        if opened is None or opened[0] != os.getpid() or opened[1].in_transaction:
            return
        del self._local.opened
        self._connections.remove(opened)
        opened[1].close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection."""
        opened: tuple[int, sqlite3.Connection] | None = getattr(self._local, "opened", None)
        if opened is None or opened[0] != os.getpid():
            opened = os.getpid(), self._connected()
            self._local.opened = opened
            self._connections.append(opened)
        return opened[1]

    def _connected(self) -> sqlite3.Connection:
        how = ""
        if self.read_only:
            how = "ro"
            if not _wal_of(self.path):
                how = "ro&immutable=1"
                self._unchanged = self._unchanged or _stamp(self.path)
        return _connect(self.path, sync=self._sync, how=how)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Hold the store's one write lock; commit at the end, roll back on an error.

        Within a transaction of the same thread it joins that one, and ends with it.  One that
        is not `durable` does not wait for the disk: if the machine stops, it may be lost, but
        not after a later one that is durable.  Raises Busy if another process keeps the lock
        for `BUSY_SECONDS`.
        """
        connection = self.connection
        if connection.in_transaction:
            yield connection
            return
        self.require_writable()
        self._refuse_full()
        with _sentences(self.path), self._synced(connection, durable=durable):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def require_writable(self) -> None:
        """Raise StoreError, with what to do, if the store is only read."""
        if self.read_only:
            raise StoreError(f"{self.path} cannot be changed: {_why_read_only(self.path)}")

    def still(self) -> AbstractContextManager[object]:
        """Return a context in which everything that is read is of one moment.

        No process changes the store meanwhile.  If we may not write to it, another process may
        change it, but what is read in the context does not change.
        """
        return self._snapshot() if self.read_only else self.transaction()

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        connection = self.connection
        if connection.in_transaction:
            yield
            return
        self._refuse_full()
        with _sentences(self.path):
            connection.execute("BEGIN")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")

    def _is_full(self) -> bool:
        """Tell whether a store to the mapped -shm file might end the process by SIGBUS."""
        if self._copies is None:
            self._copies = is_on_btrfs(self.path.parent)
        if not self._copies or time.monotonic() < self._has_room_until:
            return False
        if not has_room(self.path.parent, _SHM):
            return True
        self._has_room_until = time.monotonic() + _MOMENT
        return False

    def _refuse_full(self) -> None:
        if self._is_full():
            raise DiskFull(f"{self.path} cannot be used: {_FULL}")

    @contextmanager
    def _synced(self, connection: sqlite3.Connection, *, durable: bool) -> Iterator[None]:
        if durable or not self._sync:
            yield
            return
        connection.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            connection.execute("PRAGMA synchronous = FULL")

    def write_back(self) -> None:
        """Write what transactions have committed to the disk before any name made later.

        That takes a fraction of a durable transaction: it does not wait until the filesystem
        has committed its journal.
        """
        if not self._sync:
            return
        from unionfs.syscalls.writeback import write_back  # ctypes, which reading does without

        with suppress(FileNotFoundError):  # no transaction has written anything yet
            fd = os.open(f"{self.path}-wal", os.O_RDWR | os.O_CLOEXEC)
            try:
                write_back(fd)
            finally:
                os.close(fd)

    @contextmanager
    def rehearsal(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock, and roll everything back at the end."""
        with suppress(_Rehearsed), self.transaction() as tx:
            yield tx
            raise _Rehearsed

    def read(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Value, ...]]:
        """Return the rows of a query, in this thread's transaction or after the last commit."""
        self._refuse_full()
        with _sentences(self.path):
            rows = self._query(sql, values).fetchall()
        self._refuse_changed()
        return rows

    def select(
        self, kind: Callable[..., _Row], sql: str, values: Sequence[Value] = ()
    ) -> list[_Row]:
        """Return what `kind` makes of the columns of each row of a query."""
        return [kind(*row) for row in self.read(sql, values)]

    def first(
        self, kind: Callable[..., _Row], sql: str, values: Sequence[Value] = ()
    ) -> _Row | None:
        """Return what `kind` makes of the first row of a query, None if there is no row."""
        self._refuse_full()
        with _sentences(self.path):
            row = self._query(sql, values).fetchone()
        self._refuse_changed()
        return None if row is None else kind(*row)

    def _refuse_changed(self) -> None:
        if self._unchanged is not None and (
            self._unchanged != _stamp(self.path) or _wal_of(self.path)
        ):
            raise Busy(f"{self.path} was changed by another process while it was read; try again")

    def _query(self, sql: str, values: Sequence[Value]) -> sqlite3.Cursor:
        try:
            return self.connection.execute(sql, values)
        except UnicodeEncodeError:
            # A word of a command line need not be UTF-8.  No text is equal to bytes.
            asked = (
                one.encode("utf-8", "surrogatepass") if isinstance(one, str) else one
                for one in values
            )
            return self.connection.execute(sql, tuple(asked))

    def has(self, table: str, where: str, *values: Value) -> bool:
        """Tell whether `table` has a row for which `where` holds."""
        sql = f"SELECT 1 FROM {table} WHERE {where} LIMIT 1"
        return self.first(bool, sql, values) is not None

    def write(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Run one statement that writes; return how many rows it changed."""
        with self.transaction() as tx:
            return tx.execute(sql, values).rowcount

    def dangling(self) -> list[tuple[str, str]]:
        """Return, of each row that names a row which is not there, the tables of both."""
        return self.select(
            lambda table, _row, parent, _key: (str(table), str(parent)),
            "PRAGMA foreign_key_check",
        )

    def delete_dangling(self, table: str) -> int:
        """Delete the rows of `table` that name a row which is not there; return how many."""
        names = self.select(
            lambda _id, _seq, parent, column, key, *_: (str(column), str(parent), str(key)),
            f"PRAGMA foreign_key_list({table})",
        )
        wrong = " OR ".join(
            f"{column} NOT IN (SELECT {key} FROM {parent})" for column, parent, key in names
        )
        return self.write(f"DELETE FROM {table} WHERE {wrong}")

    def _migrate(self) -> None:
        version = self._version()
        if version > schema.VERSION:
            raise WrongVersion(
                f"{self.path} has the schema version {version}, written by a newer PyUnion; this "
                f"one knows versions up to {schema.VERSION}: upgrade PyUnion, or use another --root"
            )
        if version == schema.VERSION:
            return
        if version == 0:
            raise StoreError(f"{self.path} is damaged: it is empty; {_REMEDY}")
        with self.transaction() as tx:
            # Another process may have done it already.
            for step in range(self._version(), schema.VERSION):
                apply_step(tx, step)

    def _version(self) -> int:
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])


def stored_object(text: str, what: str) -> Object:
    """Return the JSON object that a column has, which is `what`; raises StoreError."""
    try:
        found = loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise StoreError(f"store.db is damaged: {what} is no JSON object; {_REMEDY}")
    return found


_open: weakref.WeakSet[Database] = weakref.WeakSet()


def _before_fork() -> None:
    for database in tuple(_open):
        database.let_go()


os.register_at_fork(before=_before_fork)


def create(path: Path, staged: Path, durability: Durability) -> None:
    """Make a new database: build it as `staged`, then link it to `path`.

    If another process makes one at the same time, the first stays.
    """
    with _sentences(path):
        connection = _connect(staged, sync=durability.sync)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for step in range(schema.VERSION):
                    apply_step(connection, step)
        finally:
            connection.close()
    os.chmod(staged, 0o600)
    with suppress(FileExistsError):
        os.link(staged, path)
    os.unlink(staged)
    durability.directory(path.parent)


def apply_step(connection: sqlite3.Connection, step: int) -> None:
    """Bring a database from version `step` to the next, in the caller's transaction."""
    for statement in _statements(schema.STEPS[step]):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {step + 1}")


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of `script`; executescript() would commit before it runs them."""
    pending = ""
    for part in itertools.chain(script.split(";"), ""):
        pending += part + ";"
        if sqlite3.complete_statement(pending):
            if pending.strip() != ";":
                yield pending
            pending = ""


_Stamp = tuple[int, int, int]


def _stamp(path: Path) -> _Stamp:
    st = os.stat(path)
    return st.st_ino, st.st_size, st.st_mtime_ns


def _is_read_only(path: Path) -> bool:
    """Tell whether we may not write to the database `path`, or not make files beside it."""
    return not all(
        os.access(one, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
        for one in (path, path.parent)
    )


def _wal_of(path: Path) -> bool:
    """Tell whether something was written that is not in `path` yet."""
    try:
        return os.stat(f"{path}-wal").st_size > 0
    except FileNotFoundError:
        return False


def _why_read_only(path: Path) -> str:
    return _READ_ONLY if os.statvfs(path.parent).f_flag & os.ST_RDONLY else _MAY_NOT


def _connect(path: Path, *, sync: bool, how: str = "") -> sqlite3.Connection:
    # mode=rw: a store.db that was removed is an error, not a new and empty store.
    mode = how or ("rw" if path.exists() else "rwc")
    connection = sqlite3.connect(
        f"file:{_quote(path)}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'OFF'}")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _quote(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn an error of SQLite into a sentence about the store."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise StoreError(f"{shown(error.object)} is not valid UTF-8, as it has to be") from error
    except sqlite3.IntegrityError:
        raise  # a bug of ours, or a conflict that the caller names better
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Busy(
                f"{path} is busy: another process has been writing to it for {BUSY_SECONDS} s"
            ) from error
        if code == sqlite3.SQLITE_FULL:
            raise DiskFull(f"{path} cannot grow: {_FULL}") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreError(f"{path} is damaged: {error}; {_REMEDY}") from error
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR):
            if not has_room(path.parent, _SHM):
                raise DiskFull(f"{path} cannot be used: {_FULL}") from error
            if _is_read_only(path):
                raise StoreError(f"{path} cannot be used: {_why_read_only(path)}") from error
            if path.exists() and not path.is_file():
                raise StoreError(f"{path} is damaged: it is no file; {_REMEDY}") from error
            raise StoreError(f"{path} cannot be used: {error}") from error
        raise
