"""The process of a stage: it mounts the stage and does its steps in their order.

Decided here and only here: what happens between two steps, and that the first step that
fails is the last.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from layerstore.containerfile.errors import ContainerfileError
from layerstore.errors import StoreError
from mount_tools.build.messages import Began, Broke, Finished, Link, Pack, Ready, Stopped
from mount_tools.build.stage_mount import StageMount, Surface
from mount_tools.container.handshake import CannotStart
from unionfs.errors import error_text
from unionfs.light_typing import TYPE_CHECKING, NamedTuple
from unionfs.syscalls.mount_tree import clone_mount

if TYPE_CHECKING:
    from typing import NoReturn

_INT = struct.Struct("i")


class StepFailed(Exception):
    """The command of a step ended with this exit status, not 0."""

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


class Task(NamedTuple):
    """A step to do; `work` is None for one that changes no file.

    `runs` tells whether it runs a command, for which the stage needs mount points.  `work` may
    raise StepFailed, CannotStart, StoreError and OSError.
    """

    step: int
    work: Callable[[Surface], None] | None
    runs: bool = False


class Ends(NamedTuple):
    """The ends of a stage's connections: to the builder, and to its packer.

    `output` is the pipe that its steps print to, and the builder reads.
    """

    builder: Link
    packer: Link
    output: int


def do_stage(
    mount: Callable[[Link], StageMount],
    tasks: Sequence[Task],
    ends: Ends,
    clock: Callable[[], int],
    exports: int,
) -> NoReturn:
    """Do `tasks`; then wait until the builder no longer needs the stage, and exit.

    `clock` returns the time, in ns, that is recorded for a step.  The root of the stage is sent
    `exports` times, each time as a detached mount, if it shows nothing but the layers.
    """
    os.umask(0o022)  # that of the user is not to be in the layers
    if ends.builder.receive() is None:
        os._exit(1)  # the builder is gone
    with suppress(BrokenPipeError):
        try:
            stage = _Stage(mount(ends.builder), ends, clock)
            if all(stage.do(task) for task in tasks):
                root = stage.root_of_layers() if exports else None
                clones = [] if root is None else [clone_mount(root) for _ in range(exports)]
                ends.builder.send(Ready(), *clones)
                for fd in clones:
                    os.close(fd)
        except BrokenPipeError:
            raise
        except Exception as error:
            ends.builder.send(Stopped(_why(error)[1], _code(error)))
        ends.packer.close()
        ends.builder.receive()
    os._exit(0)


class _Stage:
    """The steps of a stage, one after the other."""

    def __init__(self, mount: StageMount, ends: Ends, clock: Callable[[], int]) -> None:
        self._mount = mount
        self._ends = ends
        self._clock = clock

    def root_of_layers(self) -> int | None:
        """Return the root of the mounted stage, None if it has mount points that no layer has."""
        surface = self._mount.surface(runs=False)
        return None if surface.shows_points else surface.root

    def do(self, task: Task) -> bool:
        """Do one step; tell whether it succeeded."""
        start = time.monotonic()
        builder = self._ends.builder
        builder.send(Began(task.step))
        number, any_names = None, False
        if task.work is not None:
            # If the stage cannot be mounted, that is no failure of the step.
            surface = self._mount.surface(runs=task.runs)
            try:
                task.work(surface)
                number, any_names = surface.freeze(), surface.any_names
            except Exception as error:
                builder.send(Broke(task.step, *_why(error), _code(error)))
                return False
        created = self._clock()
        self._ends.packer.send(Pack(task.step, created, number, any_names))
        unread = _holds_data(self._ends.output)
        builder.send(Finished(task.step, time.monotonic() - start, created, number, unread))
        if unread and builder.receive() is None:
            raise BrokenPipeError
        return True


def _holds_data(pipe: int) -> bool:
    """Tell whether something in `pipe` was not read yet."""
    size = fcntl.ioctl(pipe, termios.FIONREAD, bytes(_INT.size))
    return _INT.unpack(size) != (0,)


def _why(error: Exception) -> tuple[int, str]:
    match error:
        case StepFailed():
            return error.status, ""
        case CannotStart():
            return 0, str(error)  # as in docker, only a command that ran has a status
        case ContainerfileError():
            return 0, error.reason  # the builder says where
        case StoreError():
            return 0, str(error)
        case OSError():
            return 0, error_text(error)
    return 0, f"a bug in PyUnion ({type(error).__name__}: {error})"


def _code(error: BaseException | None) -> int:
    """Return the errno of an error, or of the one that it was raised for; 0 without one."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return (error.errno or 0) if error is not None else 0
