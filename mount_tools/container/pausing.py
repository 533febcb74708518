"""Pause the processes of a container, and let them go on.

Decided here and only here: how that is done.  Where a control group can be made, all of the
container's processes are moved into one that is frozen; none of them can notice.  Elsewhere
each gets SIGSTOP, which its parent can see: a shell in the container may report it.

`containers/<id>/paused` says how, and of which start of the container; it is written before
anything is paused.  It is believed only if the processes are as it says, so a pause that was
killed half-way is undone by `unpause`, and one of an earlier start counts for nothing.

Source: moby `daemon/pause.go`, `daemon/unpause.go`, `daemon/kill.go`; cgroup-v2.rst
"cgroup.freeze".
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from layerstore.containers.container import Container
from layerstore.db.processes import ProcessId, status_of
from layerstore.errors import Conflict, StoreError
from layerstore.light_json import Reader, dumps
from mount_tools.container import cgroup
from mount_tools.container.members import members
from unionfs.light_typing import NamedTuple

_MARK = "paused"
_STOPPED = "Tt"
_ROUNDS = 100  # each stops what the processes of the round before have forked


class _Pause(NamedTuple):
    """How the container is paused: in a frozen `group`, or without one by signals."""

    init: ProcessId
    group: Path | None


def is_paused(container: Container) -> bool:
    """Tell whether the container is paused."""
    return _pause_of(container) is not None


def refuse_paused(container: Container, before: str) -> None:
    """Raise Conflict if the container is paused; `before` ends "unpause the container before"."""
    if is_paused(container):
        raise Conflict(
            f"Container {container.name} is paused, unpause the container before {before}"
        )


def pause(container: Container) -> str | None:
    """Pause the container.  Return why it was done by signals, None if it was frozen.

    Raises Conflict if it does not run or is paused already, and StoreError.
    """
    init = container.process if container.runs_command else None
    if init is None or not init.alive():
        raise Conflict(f"Container {container.id} is not running")
    if is_paused(container):
        raise Conflict(f"Container {container.id} is already paused")
    directory = container.directory
    reason = None
    group = cgroup.group_of(init.pid)
    if not init.alive():
        raise Conflict(f"Container {container.id} is not running")  # the group may be another's
    if group is None:
        try:
            group = cgroup.make_cgroup(container.id)
            cgroup.record(directory, group)
        except cgroup.NoCgroup as error:
            reason = str(error)
    _mark(directory, container, group)
    try:
        if group is not None:
            _freeze(group, init)
        else:
            _stop(init)
    except OSError as error:
        if group is None:
            raise StoreError(f"the processes cannot be stopped: {error.strerror}") from error
        # It may be allowed to make a group, and not to move a process into it.
        with suppress(OSError):
            cgroup.thaw(group)
        reason = f"{group}: {error.strerror}"
        _mark(directory, container, None)
        _stop(init)
    return reason


def unpause(container: Container) -> None:
    """Let a paused container go on.  Raises Conflict if it is not paused."""
    if not container.runs_command:
        raise Conflict(f"Container {container.id} is not running")
    found = _pause_of(container)
    if found is None:
        raise Conflict(f"Container {container.id} is not paused")
    if found.group is not None:
        cgroup.thaw(found.group)
    else:
        for process in reversed(members(found.init)):
            with suppress(ProcessLookupError):
                process.id.send(signal.SIGCONT)
    with suppress(FileNotFoundError):
        (container.directory / _MARK).unlink()


def resume(container: Container) -> None:
    """Let the container go on if it is paused, so that it can take a signal."""
    with suppress(Conflict):
        unpause(container)


def _freeze(group: Path, init: ProcessId) -> None:
    cgroup.freeze(group)
    for _ in range(_ROUNDS):
        inside = cgroup.processes_of(group)
        outside = [one.id.pid for one in members(init) if one.id.pid not in inside]
        if not outside:
            break
        for pid in outside:
            with suppress(ProcessLookupError):
                cgroup.enter(group, pid)
    if not cgroup.wait_until_frozen(group):
        cgroup.thaw(group)
        raise StoreError(
            "a process of the container does not stand still: it waits in the kernel; try again"
        )


def _stop(init: ProcessId) -> None:
    for _ in range(_ROUNDS):
        running = [one for one in members(init) if one.state not in _STOPPED and one.state != "Z"]
        if not running:
            return
        for process in running:
            with suppress(ProcessLookupError):
                process.id.send(signal.SIGSTOP)


def _mark(directory: Path, container: Container, group: Path | None) -> None:
    text = dumps([container.pid, container.pid_start, group and os.fspath(group)])
    (directory / _MARK).write_text(text)


def _pause_of(container: Container) -> _Pause | None:
    """Return how the container is paused, None if it is not."""
    if not container.runs_command:
        return None
    try:
        text = (container.directory / _MARK).read_text()
    except OSError:
        return None
    try:
        pid, start, path = Reader(float).read(text)
    except (ValueError, TypeError):
        return None  # it was being written
    if (pid, start) != (container.pid, container.pid_start):
        return None
    group = Path(path) if path else None
    if group is not None:
        return _Pause(ProcessId(pid, start), group) if cgroup.is_freezing(group) else None
    process = status_of(pid)
    if process is None or process.state not in _STOPPED:
        return None
    return _Pause(ProcessId(pid, start), None)
