"""What layers hold, and unions opened in this process (`tests.helpers.layers.Layers.union`)."""

from __future__ import annotations

import gc
import os
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.helpers.core_driver import CoreDriver
from unionfs.core.state import State
from unionfs.core.union import UnionFs
from unionfs.types import NodeId

OLD_NS = 1_000_000_000_123_456_789

Content = Mapping[str, "str | bytes | Content | None"]
"""A name and what it is: text of a file, a dict for a directory, None for a whiteout."""


def fill(folder: Path, content: Content) -> None:
    """Make what `content` describes in `folder`."""
    for name, what in content.items():
        path = folder / name
        if what is None:
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        elif isinstance(what, str | bytes):
            path.write_bytes(what.encode() if isinstance(what, str) else what)
        else:
            path.mkdir(exist_ok=True)
            fill(path, what)


def settle() -> None:
    """Collect what garbage there is, and let the next call look at what came after it alone.

    Thousands of tests leave much that is kept for the report.
    """
    gc.collect()
    gc.freeze()


def open_fds() -> int:
    """Return how many files this process has open.

    Not counted are those that only wait for the garbage collector: an earlier
    test's, in the frames of an exception it caught.
    """
    settle()
    return len(os.listdir("/proc/self/fd")) - 1


def errno_of(action: Callable[[], object]) -> int:
    """Return the errno `action` fails with; nothing of its traceback, and so no fd, is kept."""
    try:
        action()
    except OSError as error:
        return error.errno or 0
    raise AssertionError("it did not fail")


def core(driver: CoreDriver) -> UnionFs:
    """Return the union itself behind `driver`."""
    assert isinstance(driver.fs, UnionFs)
    return driver.fs


def state(driver: CoreDriver) -> State:
    """Return what the union behind `driver` shares between its parts."""
    return state_of(core(driver))


def state_of(fs: UnionFs) -> State:
    """Return what the union shares between its parts.

    Its tables and caches are nothing for a face to show, but tests have to see that they
    do not grow and to empty them.
    """
    return fs._state


def nodeid(driver: CoreDriver, path: bytes) -> NodeId:
    """Return the nodeid of `path`; the driver keeps a reference to it."""
    return driver.get(path).nodeid


def discard_staged(fs: UnionFs) -> None:
    """Remove the copies that are staged ahead, which keep their inodes."""
    writable = state_of(fs).writable
    if writable is not None and writable.ahead is not None:
        writable.ahead.discard()


def in_a_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread of its own, as the `background` of a union."""
    threading.Thread(target=work, daemon=True).start()
