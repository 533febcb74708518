"""A stage at work, as the builder sees it: its container, its processes, their messages.

Decided here and only here: how a stage begins and ends in the store.  Its container has
`auto_remove` and counts as running.  If a step fails the container is kept, with a shell
for its command.  Otherwise it is removed when the build ends; if the builder is killed, the
next build removes it.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial

from layerstore.containers.container import Container
from layerstore.errors import NotFound, StoreError
from layerstore.light_json import dumps
from layerstore.oci.documents import Object
from layerstore.store import Store
from mount_tools.build.messages import (
    Leased,
    Link,
    Ready,
    Recorded,
    Serving,
    Stopped,
    Unserved,
    link,
)
from mount_tools.build.packer import Packer, Record, run_packer
from mount_tools.build.process_namespace import forked_inside
from mount_tools.build.stage import Ends, Task, do_stage
from mount_tools.build.stage_mount import StageMount, prepare_stage
from mount_tools.container.handshake import end_with
from mount_tools.daemon.after_fork import close_all_but, forget_descriptors
from mount_tools.daemon.detach import ended_within
from mount_tools.daemon.handover import await_predecessor
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import NoReturn

_SERVES = ("mount_tools.daemon.serve", "mount_tools.daemon.control", "unionfs.transports.dev_fuse")
_SECONDS_TO_RECORD = 10.0
"""How long a packer may take to record what it has packed, when the build is interrupted."""
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class StageOrder(NamedTuple):
    """What the processes of a stage have to do, and what they need for that.

    `tasks` returns the steps, and gets the descriptor for their output.  `record` adds what the
    build cache has of a packed step.  `clock` returns the time in ns that is recorded for a
    step; files of a layer newer than `newest_ns` get that time, if it is given.  `exports` is
    how many descriptors of the stage's root are needed, see `do_stage`.  `sources` are
    descriptors that the tasks use, `extra_hosts` lines for the /etc/hosts of a RUN.
    """

    tasks: Callable[[int], Sequence[Task]]
    record: Record
    clock: Callable[[], int]
    newest_ns: int | None
    exports: int
    sources: Sequence[int] = ()
    extra_hosts: tuple[str, ...] = ()


class StageProcess:
    """The processes of a stage: its own, which does the steps, and its packer."""

    def __init__(self, store: Store, container: Container, order: StageOrder) -> None:
        """Start the processes.

        The caller calls `end`.  Raises StoreError; the container is then removed.
        """
        self.container = container
        self.has_steps = False
        self._store = store
        self._undo = ExitStack()
        lock = self._undo.enter_context(store.containers.lock(container))
        self.output, output = os.pipe()
        self._undo.callback(os.close, self.output)
        os.set_blocking(self.output, False)
        self.steps, stage_end = link()
        self.packed, packer_end = link()
        packer_jobs, jobs = link()
        self._packer = self._stage = 0
        others = (stage_end, packer_end, packer_jobs, jobs)
        try:
            packer = partial(Packer, store, container, order.record, order.newest_ns)
            self._packer = self._start_packer(packer, packer_jobs, packer_end, lock)
            # Here, not in the process of the stage: the next stage needs the same modules.
            tasks = order.tasks(output)
            self.has_steps = bool(tasks)
            runs = any(task.runs for task in tasks)
            self._plan = prepare_stage(
                store, container, len(tasks), runs=runs, extra_hosts=order.extra_hosts
            )
            self._stage = self._start_stage(order, tasks, Ends(stage_end, jobs, output))
            _close(others)  # with a copy of an end here, the death of a process is not seen
            self._let_begin()
        except BaseException:
            _close(others)  # a copy of an end here would keep the packer waiting
            self.kill()
            self.end()
            self.remove()
            raise
        finally:
            os.close(output)
            _close(others)
        if runs and not self._plan.of_kernel:
            _prepare_to_serve()

    def _start_packer(
        self, packer: Callable[[], Packer], jobs: Link, builder: Link, lock: int
    ) -> int:
        # A child does not inherit SQLite's locks, but its copy of SQLite believes that it does.
        self._store.database.close()
        # While the packer has the lock, the next build does not remove what it records.
        kept = (jobs.fileno(), builder.fileno(), lock)
        return _forked(kept, lambda: run_packer(packer, jobs, builder))

    def _start_stage(self, order: StageOrder, tasks: Sequence[Task], ends: Ends) -> int:
        """Fork the process that does `tasks` on the mounted stage; return its pid.

        Whatever its steps start ends with it.
        """
        self._store.database.close()
        kept = (ends.builder.fileno(), ends.packer.fileno(), ends.output, *order.sources)

        def stage(builder: int) -> NoReturn:
            end_with(builder)
            do_stage(partial(StageMount, self._plan), tasks, ends, order.clock, order.exports)

        return forked_inside(lambda parent, does: _forked((parent, *kept), does), stage)

    def _let_begin(self) -> None:
        """Record the stage's process and let it begin.

        A step may fill the disk, and then neither this nor the packer's lease can be recorded.
        """
        match self.packed.receive():
            case (Leased(), _):
                self._store.containers.started(self.container, self._stage)
                self.steps.send(Recorded())
            case (Stopped(text, code), _):
                raise StoreError(text) from (OSError(code, text) if code else None)
            case _:
                raise StoreError("the process that packs the layers of a stage was killed")

    def serve(self, fuse: int) -> None:
        """Start the daemon of our mount, which the stage's process has made; closes `fuse`.

        Raises StoreError.
        """
        from mount_tools.build.fuse_stage import serve_stage

        self._store.database.close()
        serve_stage(self._plan, fuse)
        with suppress(BrokenPipeError):  # it was killed, which its connection tells
            self.steps.send(Serving())

    def exported(self) -> list[int]:
        """Wait until the stage, which has no steps, is mounted; return descriptors of its root.

        Raises StoreError.
        """
        while True:
            received = self.steps.receive()
            match received:
                case (Ready(), fds):
                    return fds
                case (Unserved(), [fuse]):
                    self.serve(fuse)
                case (Stopped(text), _):
                    raise StoreError(text)
                case _:
                    raise StoreError("the process that mounts a stage to copy from has ended")

    def kill(self) -> None:
        """End the stage's process at once, and with it every process of its step.

        The packer then records the layers that are packed, so that the next build can reuse them.
        """
        _kill(self._stage)

    def end(self) -> None:
        """Wait for the processes, which end when our ends are closed, and for the daemon.

        If Ctrl-C interrupts that, the container's lock is let go all the same: `remove` takes it.
        """
        self.steps.close()
        self.packed.close()
        with self._undo:
            if self._stage:
                os.waitpid(self._stage, 0)
            if self._packer:
                self._await_packer()
            self._stage = self._packer = 0
            await_predecessor(os.fsencode(self.container.upper))
            # This must work on a full disk too: removing the container frees space.
            self._store.reserve.with_room(lambda: self._finished(0))

    def _await_packer(self) -> None:
        packer = os.pidfd_open(self._packer)
        try:
            if not ended_within(packer, _SECONDS_TO_RECORD):
                _kill(self._packer)
        finally:
            os.close(packer)
        os.waitpid(self._packer, 0)

    def _finished(self, status: int) -> None:
        with suppress(NotFound):
            # It is about to be removed, or kept by another update.
            self._store.containers.finished(self.container, status, durable=False)

    def remove(self) -> None:
        """Remove the container.  The caller has ended the processes."""
        containers = self._store.containers

        def work() -> None:
            with suppress(NotFound):
                containers.remove(containers.get(self.container.id))

        self._store.reserve.with_room(work)

    def keep(self, status: int, config: Object) -> None:
        """Keep the container of a failed step for the user.  The caller has ended the processes."""

        def work() -> None:
            with suppress(NotFound):
                self._store.containers.update(self.container, auto_remove=0, config=dumps(config))
                self._store.containers.finished(self.container, status)

        self._store.reserve.with_room(work)


def _close(ends: Iterable[Link]) -> None:
    for end in ends:
        end.close()


def _forked(kept: Sequence[int], work: Callable[[], int]) -> int:
    """Do `work` in a child, which exits with what it returns; return its pid.

    The child has no descriptors but `kept`.  Ctrl-C at the terminal reaches only the builder,
    which then ends its children.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        forget_descriptors()
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        close_all_but(*kept)
        status = work()
    finally:
        os._exit(status)


def _prepare_to_serve() -> None:
    """Import what a daemon needs while the stage's process works: each daemon is a fork."""
    for name in _SERVES:
        importlib.import_module(name)


def _kill(pid: int) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
