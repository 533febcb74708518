"""Where processes wait, for the message of a test that waited for them in vain."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

_FRAMES = 6


def waiting_processes() -> str:
    """Return a line for each process of these tests, or that waits for a disk, with its threads.

    Each thread is shown with its state and the innermost functions of the kernel in which it
    waits, which root may read.
    """
    lines = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):  # it has ended
            command = os.fsdecode((entry / "cmdline").read_bytes().replace(b"\0", b" "))
            threads = [_thread(task) for task in (entry / "task").iterdir()]
            if sys.executable in command or any(thread.startswith("D") for thread in threads):
                lines.append(f"{entry.name} {command[:200]}")
                lines += [f"    {thread}" for thread in sorted(set(threads))]
    return "\n".join(lines)


def _thread(task: Path) -> str:
    state = (task / "stat").read_text().rpartition(")")[2][1]
    stack = ""
    with suppress(OSError):
        lines = (task / "stack").read_text().splitlines()
        frames = [line.split()[1].partition("+")[0] for line in lines]
        stack = " < ".join(frames[:_FRAMES])
    return f"{state} {stack}"
