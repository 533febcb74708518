"""The process of a stage: it mounts the stage once and does its steps in their order.

Decided here and only here: what happens between two steps, and that the first step that
fails is the last.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn

from layerstore.containerfile.errors import ContainerfileError
from layerstore.errors import StoreError
from mount_tools.build.messages import Began, Broke, Finished, Link, Pack, Ready
from mount_tools.build.stage_mount import Surface
from mount_tools.container.handshake import CannotStart
from unionfs.syscalls.mount_tree import clone_mount


class StepFailed(Exception):
    """The command of a step ended with this exit status, not 0."""

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


class Task(NamedTuple):
    """A step to do; `work` is None for one that changes no file.

    `work` may raise StepFailed, CannotStart, StoreError and OSError.
    """

    step: int
    work: Callable[[Surface], None] | None


class Ends(NamedTuple):
    """The ends of a stage's connections: to the builder, and to its packer."""

    builder: Link
    packer: Link


def do_stage(
    stage: Surface, tasks: Sequence[Task], ends: Ends, clock: Callable[[], int], exports: int
) -> NoReturn:
    """Do `tasks`; then wait until the builder no longer needs the stage, and exit.

    `clock` returns the time, in ns, that is recorded for a step.  The root of the
    stage is sent `exports` times, each time as a detached mount.
    """
    # Ctrl-C at the terminal must reach only the builder, which then ends us.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    with suppress(BrokenPipeError):
        if all(_do(stage, task, ends, clock) for task in tasks):
            ends.packer.close()
            clones = [clone_mount(stage.root) for _ in range(exports)]
            ends.builder.send(Ready(), *clones)
            for fd in clones:
                os.close(fd)
        else:
            ends.packer.close()
        ends.builder.receive()
    os._exit(0)


def _do(stage: Surface, task: Task, ends: Ends, clock: Callable[[], int]) -> bool:
    """Do one step; tell whether it succeeded."""
    start = time.monotonic()
    ends.builder.send(Began(task.step))
    number = None
    if task.work is not None:
        try:
            task.work(stage)
            number = stage.freeze()
        except Exception as error:
            ends.builder.send(Broke(task.step, *_why(error)))
            return False
    created = clock()
    ends.packer.send(Pack(task.step, created, number))
    ends.builder.send(Finished(task.step, time.monotonic() - start, created, number))
    return True


def _why(error: Exception) -> tuple[int, str]:
    match error:
        case StepFailed():
            return error.status, ""
        case CannotStart():
            return error.status, str(error)
        case ContainerfileError():
            return 0, error.reason  # the builder says where
        case StoreError():
            return 0, str(error)
        case OSError():
            names = [os.fsdecode(name) for name in (error.filename, error.filename2) if name]
            return 0, ": ".join([*names, error.strerror or str(error)])
    return 0, f"a bug in PyUnion ({type(error).__name__}: {error})"
