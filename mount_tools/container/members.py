"""The processes of a running container, as this machine sees them.

Decided here and only here: a process belongs to a container if it is in the PID namespace of
the container's init, or if an ancestor of it is, as in a namespace that the container made.

Source: pid_namespaces(7), proc_pid_status(5).
"""

from __future__ import annotations

import os
from contextlib import suppress

from layerstore.db.processes import ProcessId, Status, status_of, way_in


def members(init: ProcessId) -> list[Status]:
    """Return the processes of the container whose init is the process `init`, by pid.

    Those that end meanwhile are left out; there are none if init has ended.
    """
    namespace = None
    with suppress(OSError):  # it is ending, or /proc shows others nothing of it
        namespace = os.stat(f"/proc/{way_in(init.pid)}/ns/pid_for_children")
    if not init.alive():
        return []  # the namespace may be that of another process, which has the pid now
    known: dict[int, Status] = {}
    found: set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        process = status_of(int(name))
        if process is None:
            continue
        known[process.id.pid] = process
        # Init itself can be read only by root of the machine.
        if process.id == init:
            found.add(init.pid)
        elif namespace is not None:
            with suppress(OSError):
                if os.path.samestat(os.stat(f"/proc/{name}/ns/pid"), namespace):
                    found.add(process.id.pid)
    grown = True
    while grown:
        more = {one.id.pid for one in known.values() if one.parent in found} - found
        grown = bool(more)
        found |= more
    return [known[pid] for pid in sorted(found)]
