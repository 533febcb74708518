"""A process that works on a store and is killed before its n-th change to disk or database."""

from __future__ import annotations

import errno
import functools
import importlib
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from layerstore import Store
from layerstore.errors import StoreError
from tests.helpers import children
from tests.helpers.faults import system_calls

CHANGES = frozenset(
    ("rename", "mkdir", "rmdir", "unlink", "link", "chmod", "utime", "write", "setxattr", "open")
)
_READING = ("SELECT", "PRAGMA")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Strike:
    """A hook that acts before the `at`-th change, by default kills; counts them without `at`."""

    def __init__(self, at: int = 0, act: Callable[[], None] = kill) -> None:
        self.at = at
        self.act = act
        self.count = 0
        self.armed = False

    def __call__(self, name: str, args: tuple[Any, ...]) -> None:
        creates = name != "open" or (len(args) > 1 and args[1] & os.O_CREAT)
        if self.armed and (name.startswith("sql ") or (name in CHANGES and creates)):
            self.count += 1
            if self.count == self.at:
                self.act()


class _Connection(sqlite3.Connection):
    strike: Strike

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        verb = sql.split(maxsplit=1)[0]
        if verb not in _READING:
            self.strike(f"sql {verb}", (sql,))
        return super().execute(sql, *values)


Work = Callable[[Store], object]


def _work(root: Path, work: Work | None, strike: Strike) -> None:
    """Run `work`, or the opening alone, with the strike armed."""

    class Connection(_Connection):
        pass

    Connection.strike = strike
    used = importlib.import_module("_sqlite3")  # by the store, without what adapts dates
    used.connect = functools.partial(sqlite3.connect, factory=Connection)  # type: ignore[attr-defined]
    with system_calls(strike):
        strike.armed = work is None
        store = Store.open(root, sync=False)
        strike.armed = True
        if work is not None:
            work(store)
        strike.armed = False


def count_changes(root: Path, work: Work | None) -> int:
    """Return how many changes `work` makes on the store at `root`, which it changes."""
    reading, writing = os.pipe()

    def run() -> None:
        strike = Strike()
        _work(root, work, strike)
        os.write(writing, b"%d" % strike.count)

    children.run(run)
    os.close(writing)
    with open(reading, "rb") as answer:
        return int(answer.read())


class EndedBefore(AssertionError):
    """The work ended, and well, before the change that was to be struck."""


def kill_at(root: Path, work: Work | None, at: int) -> None:
    """Run `work` in a process that is killed before its `at`-th change."""
    status = children.wait(children.spawn(lambda: _work(root, work, Strike(at))))
    if status == 0:
        raise EndedBefore(f"the work ended before change {at}")
    assert status == -signal.SIGKILL, f"the work ended before change {at}, with {status}"


def fail_at(root: Path, work: Work, at: int) -> None:
    """Run `work` in a process whose `at`-th change fails; it ends as the work decides."""

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def run() -> None:
        with suppress(OSError, StoreError):
            _work(root, work, Strike(at, fail))

    children.run(run)


def points(count: int, most: int) -> Iterator[int]:
    """Yield up to `most` of the numbers from 1 to `count`, the first and the last among them."""
    if count <= most:
        yield from range(1, count + 1)
    else:
        yield from sorted({1 + round(n * (count - 1) / (most - 1)) for n in range(most)})
