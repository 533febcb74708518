"""Few descriptors, and trees that are deeper than there are any."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.unions import open_fds


@contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """Let this process open `count` files more than it has open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_fds() + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def room_for_files(pid: int) -> int:
    """Return how many descriptors process `pid` can have before its table has to grow."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("FDSize:"):
            return int(line.split()[1])
    raise AssertionError("/proc/PID/status has no FDSize")


def make_deep(top: Path, name: bytes, levels: int) -> None:
    """Make `levels` directories in each other beneath `top`, and an empty file in the last."""
    fd = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("end", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
