"""The locks that one copy_up at a time of each file holds."""

from __future__ import annotations

import threading

from tests.helpers.mounts import DEADLINE
from unionfs.core.state import CopyLocks
from unionfs.types import NodeId


def test_one_file_is_copied_by_one_thread_at_a_time() -> None:
    locks, got = CopyLocks(), threading.Event()

    def other() -> None:
        with locks.holding(NodeId(7)):
            got.set()

    thread = threading.Thread(target=other)
    with locks.holding(NodeId(7)):
        thread.start()
        with locks.holding(NodeId(8)):
            assert not got.is_set()
    thread.join(10)
    assert got.is_set()


def test_a_lock_is_free_again_after_an_error() -> None:
    locks = CopyLocks()
    try:
        with locks.holding(NodeId(7)):
            raise OSError
    except OSError:
        pass
    got = threading.Event()

    def other() -> None:
        with locks.holding(NodeId(7)):
            got.set()

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    assert got.wait(DEADLINE)
    thread.join(10)
