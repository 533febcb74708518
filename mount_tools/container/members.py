"""The processes of a running container, as this machine sees them.

Decided here and only here: a process belongs to a container if it is in the PID namespace of
the container's init, or if an ancestor of it is, as in a namespace that the container made.

Source: pid_namespaces(7), proc_pid_status(5).
"""

from __future__ import annotations

import os
from contextlib import suppress

from layerstore.db.processes import way_in
from unionfs.light_typing import NamedTuple


class Process(NamedTuple):
    """A process: its pid, the pid of its parent, and its state, a letter of proc_pid_stat(5)."""

    pid: int
    parent: int
    state: str


def members(init: int) -> list[Process]:
    """Return the processes of the container whose init is the process `init`, by pid.

    Those that end meanwhile are left out.
    """
    try:
        namespace = os.stat(f"/proc/{way_in(init)}/ns/pid_for_children")
    except OSError:
        namespace = None
    known: dict[int, Process] = {}
    found: set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        process = process_of(int(name))
        if process is None:
            continue
        known[process.pid] = process
        # Init itself can be read only by root of the machine.
        if process.pid == init:
            found.add(process.pid)
        elif namespace is not None:
            with suppress(OSError):
                if os.path.samestat(os.stat(f"/proc/{name}/ns/pid"), namespace):
                    found.add(process.pid)
    grown = True
    while grown:
        more = {one.pid for one in known.values() if one.parent in found} - found
        grown = bool(more)
        found |= more
    return [known[pid] for pid in sorted(found)]


def process_of(pid: int) -> Process | None:
    """Return the process `pid`, None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            line = stat.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = line[line.rindex(b")") + 2 :].split()[:2]
    return Process(pid, int(parent), state.decode())
