"""A stage at work, as the builder sees it: its container, its processes, their messages.

Decided here and only here: how a stage begins and ends in the store.  Its container has
`auto_remove` and counts as running.  If a step fails the container is kept, with a shell
for its command.  Otherwise it is removed when the build ends; if the builder is killed, the
next build removes it.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import NoReturn

from layerstore.containers.containers import Container
from layerstore.errors import NotFound
from layerstore.oci.documents import Object
from layerstore.store import Store
from mount_tools.build.kernel_stage import is_possible, start_kernel_stage
from mount_tools.build.messages import Link, link
from mount_tools.build.packer import Packer, Record, run_packer
from mount_tools.build.stage import Ends, Task, do_stage
from mount_tools.build.stage_mount import StageMount, Surface, prepare_stage, start_stage
from mount_tools.container.handshake import CannotStart, Silence, end_with
from mount_tools.container.program import own_interpreter
from mount_tools.daemon.after_fork import close_all_but, forget_descriptors
from mount_tools.daemon.handover import await_predecessor

SECONDS_TO_RECORD = 10.0


class StageProcess:
    """The processes of a stage: its own, which does the steps, and its packer."""

    def __init__(
        self,
        store: Store,
        container: Container,
        tasks: Callable[[int], Sequence[Task]],
        record: Record,
        *,
        clock: Callable[[], int],
        newest_ns: int | None,
        runs: bool,
        exports: int,
        sources: Sequence[int] = (),
    ) -> None:
        """Start the processes.  `tasks` gets the descriptor for the output of the steps.

        `sources` are descriptors that the tasks use.  The caller calls `end`.  Raises
        StoreError if the stage cannot be mounted; the container is then removed.
        """
        own_interpreter()
        self.container = container
        self._store = store
        self._undo = ExitStack()
        self._undo.enter_context(store.containers.lock(container))
        self.output, output = os.pipe()
        self._undo.callback(os.close, self.output)
        os.set_blocking(self.output, False)
        self.steps, stage_end = link()
        self.packed, packer_end = link()
        packer_jobs, jobs = link()
        self._packer = self._stage = 0
        others = (stage_end, packer_end, packer_jobs, jobs)
        try:
            mount = prepare_stage(store, container, runs=runs)
            # A child does not inherit SQLite's locks, but its copy of SQLite believes that it does.
            store.database.close()
            self._packer = self._start_packer(
                lambda: Packer(store, container, record, newest_ns), packer_jobs, packer_end
            )
            ends = Ends(stage_end, jobs)
            keep = (stage_end.fileno(), jobs.fileno(), output, *sources)

            def work(stage: Surface) -> NoReturn:
                do_stage(stage, tasks(output), ends, clock, exports)

            self._stage = _start(mount, work, keep, runs=runs)
            store.containers.started(container, self._stage)
        except BaseException:
            for end in others:  # a copy of an end here would keep the packer waiting
                end.close()
            self.kill()
            self.end()
            self.remove()
            raise
        finally:
            os.close(output)
            for end in others:
                end.close()

    def _start_packer(self, packer: Callable[[], Packer], jobs: Link, builder: Link) -> int:
        runner = os.pidfd_open(os.getpid())
        child = os.fork()
        if child:
            os.close(runner)
            return child
        status = 1
        try:
            forget_descriptors()
            end_with(runner)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_IGN)
            close_all_but(jobs.fileno(), builder.fileno())
            status = run_packer(packer, jobs, builder)
        finally:
            os._exit(status)

    def kill(self) -> None:
        """End the stage's process at once, and with it every process of its step.

        The packer then records the layers that are packed, so that the next build can reuse them.
        """
        _kill(self._stage)

    def end(self) -> None:
        """Wait for the processes, which end when our ends are closed, and for the daemon."""
        self.steps.close()
        self.packed.close()
        if self._stage:
            os.waitpid(self._stage, 0)
        if self._packer:
            if not _ends_within(self._packer, SECONDS_TO_RECORD):
                _kill(self._packer)
            os.waitpid(self._packer, 0)
        self._stage = self._packer = 0
        await_predecessor(os.fsencode(self._store.containers.upper(self.container)))
        try:
            # This must work on a full disk too: removing the container frees space.
            self._store.reserve.with_room(lambda: self._finished(0))
        finally:
            self._undo.close()

    def _finished(self, status: int) -> None:
        with suppress(NotFound):
            self._store.containers.finished(self.container, status)

    def remove(self) -> None:
        """Remove the container.  The caller has ended the processes."""
        containers = self._store.containers

        def work() -> None:
            with suppress(NotFound):
                containers.remove(containers.get(self.container.id))

        self._store.reserve.with_room(work)

    def keep(self, status: int, config: Object) -> None:
        """Keep the container of a failed step for the user.  The caller has ended the processes."""
        with suppress(NotFound):
            self._store.containers.update(self.container, auto_remove=0, config=json.dumps(config))
            self._store.containers.finished(self.container, status)


def _start(
    mount: StageMount, work: Callable[[Surface], NoReturn], keep: Sequence[int], *, runs: bool
) -> int:
    """Start the process of a stage; return its pid."""
    if not runs and is_possible(mount):
        with suppress(CannotStart, Silence):
            pid = start_kernel_stage(mount, work, keep)
            os.close(mount.root.fuse)
            return pid
    return start_stage(mount, work, keep)


def _kill(pid: int) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _ends_within(pid: int, seconds: float) -> bool:
    """Tell whether our child `pid` ends within so many seconds."""
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(fd)
