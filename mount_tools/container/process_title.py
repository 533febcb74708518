"""The name under which ps(1) shows a process, and the environment that /proc shows of it.

Init's own command line would be that of `pyunion` on the host: paths, and options with
secrets perhaps, that every process of the container may read.

The environment is that of the user who starts the container.  A process of the container that
may trace init could read it.

Source: proc_pid_cmdline(5); Linux fs/proc/base.c:get_mm_cmdline(): where the last byte of
the arguments is not NUL, the command line ends at the first NUL.
"""

from __future__ import annotations

import os
from contextlib import suppress

_LONGEST_NAME = 15  # bytes, TASK_COMM_LEN
# Fields of /proc/PID/stat, counted from 1.
_ARG_START, _ARG_END = 48, 49
_ENV_START, _ENV_END = 50, 51


def set_process_title(title: str, *, name: str | None = None, cut: bool = False) -> None:
    """Make `title` the command line of this process, and `name`, or else `title`, its name.

    Without a /proc to do it with, nothing is done.  If the arguments of the process are
    shorter than `title`, it is `cut`, or else the command line stays as it is.
    """
    data = title.encode(errors="surrogateescape")
    with suppress(OSError):
        comm = data if name is None else name.encode()
        with open("/proc/self/comm", "wb") as file:
            file.write(comm[:_LONGEST_NAME])
        start, end = _addresses(_ARG_START, _ARG_END)
        room = end - start
        if cut:
            data = data[: room - 2]
        if room < len(data) + 2:
            return
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(data.ljust(room - 1, b"\0") + b" ")


def show_as_keeper(container: str, store: str) -> None:
    """Let ps(1) show this process as the keeper of a container, in the store there.

    It outlives the command that it is a fork of, and every user of the machine may read the
    command line: what is in `-e NAME=VALUE` is not for them.
    """
    name = "pyunion-keeper"
    set_process_title(f"{name} {container[:12]} in {store}", name=name, cut=True)


def forget_environment() -> None:
    """Overwrite what /proc shows as the environment of this process, and what os.environ has."""
    os.environ.clear()
    with suppress(OSError):
        start, end = _addresses(_ENV_START, _ENV_END)
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(bytes(end - start))


def _addresses(*numbers: int) -> list[int]:
    """Return these fields of /proc/self/stat."""
    with open("/proc/self/stat", "rb") as file:
        line = file.read()
    fields = line[line.rindex(b")") + 2 :].split()
    return [int(fields[number - 3]) for number in numbers]
