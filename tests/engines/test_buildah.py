"""buildah on PyUnion: ids, data that other mount programs damage, and a killed daemon."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.engines.store import Store, stop_and_kill
from tests.helpers.mounts import wait_until

_WRITER = """
import sqlite3, sys
path, number, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
connection = sqlite3.connect(path, timeout=60, isolation_level=None)
assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
for row in range(rows):
    connection.execute("begin immediate")
    connection.execute("insert into made values (?, ?, ?)", (number, row, "x" * (row * 37 % 900)))
    connection.execute("update old set text = text || ? where id = ?", (str(number), row))
    connection.execute("commit")
connection.close()
"""


@pytest.mark.parametrize("owner", [0, 7])
def test_a_container_with_an_id_map(store: Store, owner: int) -> None:
    """The engine makes files as the host's root, an id that the map does not have."""
    maps = ("--userns-uid-map", "0:100000:65536", "--userns-gid-map", "0:100000:65536")
    container = store.buildah("from", *maps, "base")
    script = f"touch /new && chown {owner}:{owner} /new && stat -c %u:%g /new /etc /bin/busybox"
    said = store.buildah("run", container, "sh", "-c", script)
    assert said.split() == [f"{owner}:{owner}", "0:0", "0:0"]
    again = store.commit(container, f"mapped{owner}")
    with store.mounted(again) as root:
        assert (root / "new").stat().st_uid == owner, "stored as the container saw it"
        assert (root / "etc").stat().st_uid == 0
    store.buildah("rm", again)


def _database(path: Path, rows: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode=wal")
        connection.execute("create table old (id integer primary key, text)")
        connection.execute("create table made (writer, row, text, primary key (writer, row))")
        connection.executemany(
            "insert into old values (?, ?)", ((row, "old" * (row % 300)) for row in range(rows))
        )


def test_a_database_of_a_lower_layer(store: Store) -> None:
    """Several writers use its write-ahead log; then it is rewritten, and committed."""
    writers, rows = 3, 40
    container = store.buildah("from", "base")
    with store.mounted(container) as root:
        _database(root / "data/db", 400)
    container = store.commit(container, "with-database")
    with store.mounted(container) as root:
        path = root / "data/db"
        processes = [
            subprocess.Popen([sys.executable, "-c", _WRITER, path, str(number), str(rows)])
            for number in range(writers)
        ]
        assert [process.wait(100) for process in processes] == [0] * writers
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("delete from old where id % 3 = 0")
            connection.execute("vacuum")
    container = store.commit(container, "rewritten")
    with store.mounted(container) as root:
        with closing(sqlite3.connect(root / "data/db")) as connection:
            assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
            made = connection.execute("select count(*) from made").fetchone()
            kept = connection.execute("select count(*), min(id % 3) from old").fetchone()
        assert (made, kept) == ((writers * rows,), (266, 1))
    store.buildah("rm", container)


def test_small_files_overwritten_by_larger_ones(store: Store) -> None:
    """In several pieces, at offsets that are no multiple of a page, through three layers."""
    seeded = random.Random(12)
    container = store.buildah("from", "base")
    contents = {}
    with store.mounted(container) as root:
        for number in range(200):
            contents[number] = seeded.randbytes(seeded.randint(1024, 65536))
            (root / f"data/{number}").write_bytes(contents[number])
    container = store.commit(container, "small")
    with store.mounted(container) as root:
        for number, old in contents.items():
            new = seeded.randbytes(len(old) + seeded.randint(1, 65536))
            cut = seeded.randint(1, len(old))
            flags = os.O_WRONLY | (os.O_TRUNC if number % 2 else 0)
            fd = os.open(root / f"data/{number}", flags)
            try:
                os.pwrite(fd, new[cut:], cut)
                os.pwrite(fd, new[:cut], 0)
            finally:
                os.close(fd)
            contents[number] = new
    container = store.commit(container, "large")
    with store.mounted(container) as root:
        wrong = [n for n, data in contents.items() if (root / f"data/{n}").read_bytes() != data]
    assert wrong == []
    store.buildah("rm", container)


def test_a_daemon_killed_during_a_commit(store: Store) -> None:
    container = store.buildah("from", "base")
    with store.mounted(container) as root:
        (root / "data/big").write_bytes(bytes(range(256)) * (1 << 16))
    wait_until(lambda: not store.daemons(), "the mount to end")
    with store.start("commit", "-q", container, "killed") as process:
        wait_until(
            lambda: bool(store.daemons()) or process.poll() is not None, "the commit to mount"
        )
        for pid in store.daemons():
            stop_and_kill(pid)
        _, err = process.communicate(timeout=100)
    assert process.returncode != 0 and err, "the engine reports the failure"
    again = store.commit(container, "not-killed")
    with store.mounted(again) as root:
        assert (root / "data/big").read_bytes() == bytes(range(256)) * (1 << 16)
    store.buildah("rm", again)
