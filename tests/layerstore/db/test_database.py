"""store.db: transactions taken in turn, versions, and SQLite's errors as sentences."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.db import database, schema
from layerstore.db.database import Database, create
from layerstore.db.durability import Durability
from layerstore.errors import Busy, DiskFull, StoreError, WrongVersion
from tests.helpers import children
from tests.helpers.images import add_image
from tests.helpers.mounts import require, require_root, run
from tests.helpers.small_disks import small_disk

NEXT = """
ALTER TABLE images ADD COLUMN starred INTEGER NOT NULL DEFAULT 0;
CREATE TABLE stars (image TEXT PRIMARY KEY REFERENCES images (id), note TEXT) STRICT;
INSERT INTO stars SELECT id, 'semi;colon' FROM images;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create(tmp_path / "store.db", tmp_path / "staged", Durability(sync=False))
    return tmp_path / "store.db"


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    with closing(Database(path, sync=False)) as opened:
        yield opened


def lease_count(db: Database) -> int:
    return db.select(int, "SELECT count(*) FROM leases")[0]


INSERT = "INSERT INTO leases (kind, key, pid, pid_start, created_ns) VALUES ('work', 'x', 1, 1, 1)"


def test_created_database_is_whole_and_nothing_else_is_left(path: Path) -> None:
    assert os.listdir(path.parent) == ["store.db"]
    assert path.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    connection.close()


def test_first_of_two_that_create_it_wins(path: Path) -> None:
    before = path.stat().st_ino
    create(path, path.with_name("staged"), Durability(sync=False))
    assert path.stat().st_ino == before and os.listdir(path.parent) == ["store.db"]


def test_transaction_rolls_back_as_a_whole(db: Database) -> None:
    with pytest.raises(KeyError), db.transaction() as outer:
        outer.execute(INSERT)
        with db.transaction() as inner:
            assert inner is outer
            inner.execute(INSERT)
        raise KeyError
    assert lease_count(db) == 0
    with db.transaction() as tx:
        tx.execute(INSERT)
    assert lease_count(db) == 1


def test_a_text_that_is_not_utf_8(db: Database) -> None:
    """As a word of a command line: no row has it, and none can get it."""
    text = os.fsdecode(b"a\xff")
    db.write(INSERT)
    sql = "SELECT kind FROM leases WHERE kind = ? OR key >= ? AND key < ?"
    assert db.read(sql, (text, text, "y")) == [] and db.first(str, sql, (text,) * 3) is None
    with pytest.raises(StoreError, match=r"a\\udcff is not valid UTF-8"):
        db.write("UPDATE leases SET kind = ?", (text,))


def test_rehearsal_leaves_nothing(db: Database) -> None:
    with db.rehearsal() as tx:
        tx.execute(INSERT)
        assert lease_count(db) == 1
    assert lease_count(db) == 0


def test_each_thread_has_its_own_transaction(db: Database) -> None:
    def add() -> None:
        for _ in range(20):
            with db.transaction():
                before = lease_count(db)
                db.write(INSERT)
                assert lease_count(db) == before + 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lease_count(db) == 80


def test_fork_uses_a_connection_of_its_own(db: Database) -> None:
    with db.transaction() as tx:
        tx.execute(INSERT)
        # The parent is within a transaction; the child's reads do not see it.
        children.run(lambda: assert_equal(lease_count(db), 0))
    children.run(lambda: db.write(INSERT))
    children.run(db.close)
    assert lease_count(db) == 2


def assert_equal(one: object, other: object) -> None:
    assert one == other


def test_waiting_for_a_writer_ends_in_a_sentence(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.01)
    holder, db = Database(path, sync=False), Database(path, sync=False)
    with closing(holder), closing(db), holder.transaction():
        assert lease_count(db) == 0, "readers wait for nobody"
        with pytest.raises(Busy, match="another process has been writing"), db.transaction():
            pass


def test_store_of_the_first_version_is_brought_up_to_date(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "VERSION", 1)
        with Store.open(root, sync=False) as old:
            image = add_image(old, {"f": b"x"}, names=["a:1"])
            old.database.write(
                "INSERT INTO containers (id, name, image, image_name, base, config, created_ns,"
                " status, pid, pid_start) VALUES ('c', 'box', ?, 'a', ?, '{}', 1, 'running', 1, 1)",
                (image.id, image.top),
            )
            old.database.write(INSERT)  # by a process that is gone
            old.database.write(
                "INSERT INTO repo_digests (repository, digest, image) VALUES (?, ?, ?)",
                ("docker.io/library/a", image.id, image.id),
            )
    with Store.open(root, sync=False) as new:
        assert new.images.resolve("a:1").id == new.images.resolve(f"a@{image.id}").id == image.id
        found = new.containers.resolve("box")
        assert (found.id, found.status, found.base) == ("c", "exited", image.top)
        assert new.leases.all() == [], "the lease came along, and was stale"
        assert new.database.read("PRAGMA user_version") == [(schema.VERSION,)]
        assert new.database.read("PRAGMA foreign_key_check") == []
        with new.leases.lease("work", "x") as first:
            new.leases.hold("layer", "l")
        with new.leases.lease("work", "x") as second:
            assert second > first, "a number is given once"


def test_older_store_is_brought_up_to_date(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(root, sync=False) as old:
        image = add_image(old, {"f": b"x"}, names=["a:1"])
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, NEXT))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with Store.open(root, sync=False) as new:
        assert new.images.resolve("a:1") == image
        assert new.database.read("SELECT id, starred FROM images") == [(image.id, 0)]
        assert new.database.read("SELECT * FROM stars") == [(image.id, "semi;colon")]
        assert new.database.read("PRAGMA foreign_key_check") == []


def test_many_that_find_an_older_store_migrate_it_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, NEXT))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    pids = [children.spawn(lambda: Database(path, sync=False).close()) for _ in range(6)]
    assert [children.wait(pid) for pid in pids] == [0] * 6


def test_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", (*schema.STEPS, NEXT + "INSERT INTO nowhere VALUES (1);"))
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(sqlite3.OperationalError):
            Database(path, sync=False)
    with closing(Database(path, sync=False)) as db:
        assert db.read("SELECT * FROM images") == []


def test_newer_store_is_refused_untouched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(root, sync=False).close()
    connection = sqlite3.connect(root / "store.db")
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(WrongVersion) as caught:
        Store.open(root)
    assert str(caught.value).startswith(
        f"{root}/store.db has the schema version {schema.VERSION + 1}, written by a newer PyUnion"
    )


@pytest.mark.parametrize("content", [b"", b"no database at all" * 1000])
def test_damaged_database_is_a_sentence(root: Path, content: bytes) -> None:
    Store.open(root, sync=False).close()
    (root / "store.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.db"):
        Store.open(root)


def test_full_disk_is_a_sentence(path: Path, db: Database) -> None:
    db.connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreError, match="no space left"), db.transaction() as tx:
        for _ in range(1000):
            tx.execute(INSERT)
    assert lease_count(db) == 0


def test_a_read_only_filesystem_is_a_sentence(tmp_path: Path) -> None:
    require_root()
    with small_disk(tmp_path, "tmpfs", 8 << 20) as small:
        root = small / "store"
        Store.open(root, sync=False).close()
        for left in root.glob("store.db-*"):
            left.unlink()
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        with (
            Store.open(root) as store,
            pytest.raises(StoreError, match="is mounted read-only; mount it writable, or copy"),
        ):
            store.database.write(INSERT)


def read_only(path: Path) -> Database:
    """Return a database that is only read, as on a medium that is read-only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "access", lambda *_args, **_named: False)
        return Database(path)


@pytest.mark.parametrize("wal", [False, True])
def test_what_may_not_be_written_to_is_read(db: Database, wal: bool) -> None:
    db.write(INSERT)
    if not wal:
        db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
    before = {path: path.stat().st_mtime_ns for path in db.path.parent.iterdir()}
    reading = read_only(db.path)
    try:
        assert reading.read_only
        with reading.still(), reading.still():
            assert lease_count(reading) == 1
        for change in (reading.transaction, reading.rehearsal):
            with pytest.raises(StoreError, match="cannot be changed: this user may not"), change():
                raise AssertionError
    finally:
        reading.close()
    assert {path: path.stat().st_mtime_ns for path in db.path.parent.iterdir()} == before


@pytest.mark.parametrize("closes", [False, True])
def test_what_another_process_changes_meanwhile_is_no_answer(db: Database, closes: bool) -> None:
    """SQLite does not look for others without a WAL: the pages may be of two moments."""
    db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    reading = read_only(db.path)
    try:
        assert lease_count(reading) == 0
        db.write(INSERT)
        if closes:
            db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.close()
        with pytest.raises(Busy, match="was changed by another process while it was read"):
            lease_count(reading)
    finally:
        reading.close()


def test_an_older_schema_is_not_brought_up_to_date_where_nothing_may_be_written(
    db: Database,
) -> None:
    db.connection.execute(f"PRAGMA user_version = {schema.VERSION - 1}")
    db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    with pytest.raises(StoreError, match="cannot be changed: this user may not write to it"):
        read_only(db.path)


def test_a_daemon_that_closes_what_it_inherited_can_write(db: Database) -> None:
    """As the daemon of a mount does, whose command had the store open when it forked."""
    db.write(INSERT)

    def daemon() -> None:
        os.closerange(3, 1024)
        assert lease_count(db) == 1
        db.write(INSERT)
        # Another process comes and goes, which is when it is seen whose locks are whose.
        children.run(lambda: Database(db.path, sync=False).close())
        db.write(INSERT)

    children.run(daemon)
    assert lease_count(db) == 3


def test_child_goes_on_when_its_parent_closes(path: Path) -> None:
    """As a daemon does: SQLite keeps what it knows of locks over a fork, and the kernel not."""
    db = Database(path, sync=False)
    db.write(INSERT)
    go, ready = os.pipe(), os.pipe()

    def daemon() -> None:
        os.close(go[1])
        assert lease_count(db) == 1
        os.write(ready[1], b".")
        os.read(go[0], 1)  # until the parent has closed
        db.write(INSERT)
        assert lease_count(db) == 2

    pid = children.spawn(daemon)
    os.read(ready[0], 1)
    db.close()
    with closing(Database(path, sync=False)) as other:
        assert lease_count(other) == 1
        for end in (go[1], *ready):
            os.close(end)
        assert children.wait(pid) == 0
        os.close(go[0])
        assert lease_count(other) == 2
    with closing(Database(path, sync=False)) as last:
        assert lease_count(last) == 2


def test_a_commit_that_may_be_lost_does_not_wait_for_the_disk(root: Path) -> None:
    Store.open(root).close()
    opened = Database(root / "store.db")
    try:

        def level() -> int:
            return int(opened.connection.execute("PRAGMA synchronous").fetchone()[0])

        with opened.transaction(durable=False):
            assert level() == 1
            with opened.transaction():  # a part of the first
                assert level() == 1
        assert level() == 2
        with pytest.raises(ZeroDivisionError), opened.transaction(durable=False):
            raise ZeroDivisionError
        assert level() == 2
    finally:
        opened.close()
    quick = Database(root / "store.db", sync=False)
    try:
        with quick.transaction(durable=False) as tx:
            assert tx.execute("PRAGMA synchronous").fetchone()[0] == 0
    finally:
        quick.close()


@pytest.mark.parametrize("quota", [False, True], ids=["disk", "quota"])
def test_a_full_btrfs_is_an_error_and_no_sigbus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: bool
) -> None:
    """A store to the mapped -shm file takes space there, each time it was written back."""
    require_root()
    require("btrfs" in Path("/proc/filesystems").read_text(), "this kernel has no btrfs")
    require(shutil.which("btrfs") is not None, "btrfs-progs are not installed")
    with small_disk(tmp_path, "btrfs", 128 << 20) as top:
        store = top / "store"
        run("btrfs", "subvolume", "create", store)
        if quota:
            run("btrfs", "quota", "enable", top)
            run("btrfs", "qgroup", "limit", "16M", store)
        create(store / "store.db", store / "staged", Durability(sync=False))

        def work() -> None:
            db = Database(store / "store.db", sync=False)
            db.write(INSERT)
            os.sync()
            with suppress(OSError), (store / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
            os.sync()
            monkeypatch.setattr(time, "monotonic", lambda before=time.monotonic: before() + 1)
            for _ in range(2):
                with pytest.raises(DiskFull, match="no space left"):
                    lease_count(db)
                with pytest.raises(DiskFull, match="no space left"):
                    db.write(INSERT)
                os.sync()
            db.close()

        assert children.wait(children.spawn(work)) == 0
        (store / "filler").unlink()
        with closing(Database(store / "store.db", sync=False)) as again:
            again.write(INSERT)
            assert lease_count(again) == 2
