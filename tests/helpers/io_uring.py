"""FUSE-over-io_uring for tests: a switch of the whole machine, off unless root turns it on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

SWITCH = Path("/sys/module/fuse/parameters/enable_uring")


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
    if reason := io_uring_unavailable():
        pytest.skip(reason)
    before = SWITCH.read_text()
    try:
        SWITCH.write_text("Y")
    except OSError as error:
        pytest.skip(f"{SWITCH} cannot be written: {error.strerror}")
    try:
        yield
    finally:
        SWITCH.write_text(before)
