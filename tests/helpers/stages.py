"""A stage of a build with tasks that a test makes, and what it reports."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from layerstore import Store
from layerstore.containers.container import Container
from layerstore.oci.digest import Digest
from mount_tools.build.attach import Attached
from mount_tools.build.messages import (
    Broke,
    Finished,
    Kept,
    Message,
    Printed,
    Ready,
    Stopped,
    Unserved,
)
from mount_tools.build.packer import DoneStep
from mount_tools.build.run_step import run_step
from mount_tools.build.stage import StepFailed, Task
from mount_tools.build.stage_container import new_container
from mount_tools.build.stage_mount import Surface
from mount_tools.build.stage_process import StageOrder, StageProcess
from mount_tools.container.process import Launch
from mount_tools.daemon.after_fork import close_all_but

Work = Callable[[Surface, int], None]


def sh(line: str, *mounts: Attached, network: bool = True, user: str = "") -> Work:
    """Return a task that runs `line` in a shell of the stage."""

    def work(stage: Surface, output: int) -> None:
        launch = Launch(("/bin/sh", "-c", line), (), "/", user)
        status = run_step(stage.plan, stage.root, launch, mounts, output, network=network)
        if status:
            raise StepFailed(status)

    return work


class Ran(NamedTuple):
    """What a stage's processes said, what its commands printed, and its chain in the end.

    `exported` has what was in the root directory of each export.
    """

    messages: list[Message]
    output: bytes
    chain: Digest | None
    container: Container
    exported: list[list[str]]

    @property
    def broke(self) -> Broke | None:
        return next((one for one in self.messages if isinstance(one, Broke)), None)

    @property
    def kept(self) -> list[Kept]:
        return [one for one in self.messages if isinstance(one, Kept) and one.step >= 0]


def run_stage(
    store: Store,
    works: Sequence[Work],
    *,
    image: str = "busy:1",
    newest_ns: int | None = None,
    exports: int = 0,
    look: Callable[[StageProcess], None] = lambda process: None,
    reads: bool = True,
) -> Ran:
    """Run a stage of `works` on an image to its end; its container stays.

    `look` is called when a command first prints something.  Unless the test `reads`, output is
    read only when a stage waits for that.
    """
    base = store.images.resolve(image)

    def tasks(output: int) -> list[Task]:
        def task(number: int, work: Work) -> Task:
            return Task(number, lambda stage: work(stage, output), runs=True)

        return [task(number, work) for number, work in enumerate(works)]

    def record(store: Store, recorded: DoneStep) -> None:
        assert store.database.connection.in_transaction

    messages: list[Message] = []
    with store.leases.lease("work", "test"):
        container = new_container(store, base.top, base.id, image, {})
        order = StageOrder(tasks, record, time.time_ns, newest_ns, exports)
        process = StageProcess(store, container, order)
        exported: list[list[str]] = []
        try:
            output = _attend(process, messages, look, exported, reads=reads)
        finally:
            process.end()
        last = next((one for one in messages if isinstance(one, Kept) and one.step < 0), None)
    made = store.containers.get(container.id)
    return Ran(messages, output, last.chain if last else None, made, exported)


def _attend(
    process: StageProcess,
    messages: list[Message],
    look: Callable[[StageProcess], None],
    exported: list[list[str]],
    *,
    reads: bool,
) -> bytes:
    printed = b""
    looked = False
    open_ends = {process.steps.fileno(): process.steps, process.packed.fileno(): process.packed}
    poll = select.poll()
    for fd in (*open_ends, *([process.output] if reads else [])):
        poll.register(fd, select.POLLIN)
    while open_ends:
        for fd, _ in poll.poll():
            if fd == process.output:
                printed += _drained(fd, poll)
                if printed and not looked:
                    looked = True
                    look(process)
                continue
            received = open_ends[fd].receive()
            if received is not None and isinstance(received[0], Unserved):
                process.serve(received[1][0])
                continue
            if received is not None:
                messages.append(received[0])
                if isinstance(received[0], Finished) and received[0].unread:
                    printed += _drained(process.output, None)
                    process.steps.send(Printed())
                for root in received[1]:
                    exported.append(sorted(os.listdir(f"/proc/self/fd/{root}")))
                    os.close(root)
            if received is None or _is_last(received[0]):
                poll.unregister(fd)
                del open_ends[fd]
    return printed + _drained(process.output, None)


def _is_last(message: Message) -> bool:
    return isinstance(message, (Ready, Broke, Stopped)) or (
        isinstance(message, Kept) and message.step < 0
    )


def _drained(fd: int, poll: select.poll | None) -> bytes:
    found = b""
    try:
        while piece := os.read(fd, 1 << 16):
            found += piece
        if poll is not None:
            poll.unregister(fd)  # no process has the other end any more
    except BlockingIOError:
        pass
    return found


def keep_open(name: str, flags: int, root: int) -> None:
    """Open `name` beneath the descriptor `root` in a process that goes on with it."""
    is_ready, ready = os.pipe()
    if os.fork() == 0:
        try:
            kept = os.open(name, flags, dir_fd=root)
            close_all_but(kept, ready)
            os.write(ready, b"1")
            signal.pause()
        finally:
            os._exit(0)
    os.read(is_ready, 1)
