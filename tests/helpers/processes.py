"""Processes that tests start, and that end with them whatever fails.

One left running, or only not waited for, is a ResourceWarning some other test
fails of.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import AnyStr

from tests.helpers.mounts import DEADLINE


def end(process: subprocess.Popen[AnyStr]) -> None:
    """Kill the process where it runs, reap it and close its pipes."""
    if process.poll() is None:
        process.kill()
    process.wait(DEADLINE)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):  # of what it was to read and has not
                pipe.close()


@contextmanager
def ending(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """Yield the process, and end it afterwards."""
    try:
        yield process
    finally:
        end(process)


def is_at_end(pid: int, path: Path) -> bool:
    """Tell whether process `pid` has `path` open, and will read what is appended to it."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        if fd.is_symlink() and os.readlink(fd) == str(path):
            words = Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text().split()
            return words[:2] == ["pos:", str(path.stat().st_size)]
    return False
