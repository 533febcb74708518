"""The floor: a FUSE filesystem in C that answers each request at once, from memory.

It asks the kernel for what PyUnion asks for, and gets the same requests, so what a workload
takes there is what the kernel, the change to another process and the program itself take: no
filesystem that is asked as often can be faster.  `floor.c` says what it leaves out.

Decided here and only here: how it is compiled.  It needs a C compiler, `cc`.
"""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_HERE = Path(__file__).parent
SOURCES = (_HERE / "floor.c", _HERE / "floor_tree.c")
_HEADER = _HERE / "floor.h"
PROGRAM = _HERE.parent / ".cache" / "floor"


@functools.cache
def why_not() -> str:
    """Compile the program, unless that is done; return why it cannot be, empty if it can."""
    return why_not_compiled(PROGRAM, SOURCES, _HEADER)


def why_not_compiled(program: Path, sources: Sequence[Path], *headers: Path) -> str:
    """Compile `program`, unless it is newer than its sources; return why not, empty if it is."""
    if program.exists():
        changed = max(source.stat().st_mtime_ns for source in (*sources, *headers))
        if program.stat().st_mtime_ns > changed:
            return ""
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as scratch:
        made = Path(scratch) / program.name
        try:
            done = subprocess.run(
                ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", made, *sources],
                capture_output=True,
                text=True,
            )
        except OSError as error:
            return f"cc cannot be run: {error.strerror}"
        if done.returncode != 0:
            return f"cc failed: {done.stderr.strip().splitlines()[0]}"
        os.replace(made, program)
    return ""
