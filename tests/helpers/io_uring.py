"""FUSE-over-io_uring for tests: a switch of the whole machine, off unless root turns it on.

Test processes that run at the same time share the switch by a lock: any number may need
it on, and one that needs it off waits until it is alone.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from tests.helpers.mounts import require_root

SWITCH = Path("/sys/module/fuse/parameters/enable_uring")
LOCK = Path("/run/lock/pyunion-tests-io_uring")


def io_uring_unavailable() -> str:
    """Return why no mount here can use io_uring, or an empty string if one can."""
    if not SWITCH.exists():
        return "this kernel has no FUSE-over-io_uring (Linux 6.14)"
    disabled = Path("/proc/sys/kernel/io_uring_disabled")
    if disabled.exists() and disabled.read_text().strip() == "2":
        return "io_uring is switched off: kernel.io_uring_disabled is 2"
    return ""


@contextlib.contextmanager
def io_uring_enabled() -> Iterator[None]:
    """Switch FUSE-over-io_uring on, skipping where that cannot be done; put it back after."""
    with _lock() as lock:
        while True:
            if _is_alone(lock):
                before = _get()
                lock.truncate(0)
                lock.write(before)
                lock.flush()
                _set("Y")
            # This waits for a process that switched it off.
            fcntl.flock(lock, fcntl.LOCK_SH)
            if _get() == "Y":
                break
        try:
            yield
        finally:
            if _is_alone(lock):
                lock.seek(0)
                _set(lock.read())


@contextlib.contextmanager
def io_uring_disabled() -> Iterator[None]:
    """Switch FUSE-over-io_uring off, skipping where there is none; put it back after."""
    with _lock() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = _get()
        _set("N")
        try:
            yield
        finally:
            _set(before)


@contextlib.contextmanager
def _lock() -> Iterator[TextIO]:
    require_root()
    if reason := io_uring_unavailable():
        pytest.skip(reason)
    with LOCK.open("a+") as lock:
        yield lock


def _is_alone(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _get() -> str:
    return SWITCH.read_text().strip()


def _set(value: str) -> None:
    try:
        SWITCH.write_text(value)
    except OSError as error:
        pytest.skip(f"{SWITCH} cannot be written: {error.strerror}")
