"""The stages at work: their messages and output, as they come.

Decided here and only here: what the builder does with each message, and what the user is told
if a step fails.

Threading: one thread, the builder's.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from layerstore.build.plan import Stage
from layerstore.db.reserve import ADVICE, FULL, has_room
from layerstore.errors import DiskFull, StoreError
from layerstore.store import Store
from mount_tools.build.evaluate import Step, StepError, look_config
from mount_tools.build.made import Made
from mount_tools.build.messages import (
    Began,
    Broke,
    Finished,
    Kept,
    Link,
    Printed,
    Ready,
    Stopped,
    Unserved,
)
from mount_tools.build.stage_process import StageProcess
from mount_tools.build.watch import Watcher
from unionfs.light_logging import Logger

log = Logger(__name__)

_PIECE = 1 << 16
_SMALL = 1 << 16  # bytes; with less free space the disk counts as full


class AtWork:
    """A stage at work: the steps that `process` does, and how many of them are done.

    `is_full` says that the store's disk was full when the step `broke`.
    """

    def __init__(
        self,
        stage: Stage,
        made: Made,
        steps: list[Step],
        process: StageProcess,
        current: Step,
        store: Store,
        watcher: Watcher,
    ) -> None:
        self.stage = stage
        self.made = made
        self.steps = steps
        self.process = process
        self.current = current
        self.store = store
        self.watcher = watcher
        self.ready = False
        self.packed = False
        self.broke: Broke | None = None
        self.is_full = False
        self.roots: list[int] = []

    @property
    def ended(self) -> bool:
        """Whether no further message will come."""
        return self.ready and self.packed

    @property
    def links(self) -> list[Link]:
        """The connections on which messages will come."""
        process = self.process
        waiting = ((process.steps, self.ready), (process.packed, self.packed))
        return [link for link, done in waiting if not done]

    def has_message(self) -> bool:
        """Tell whether the process that does the steps has sent something more."""
        return not self.ready and self.process.steps.has_message()

    def show_output(self) -> bool:
        """Show what the step's command has printed; tell whether it printed anything."""
        try:
            data = os.read(self.process.output, _PIECE)
        except BlockingIOError:
            return False
        if data:
            self.watcher.output(self.current.shown, data)
        return bool(data)

    def _show_all(self) -> None:
        while self.show_output():
            pass

    def take(self, link: Link) -> None:
        """Receive a message of `link` and handle it; raises StoreError if the stage must stop."""
        received = link.receive()
        if received is None:
            who = "packs its layers" if link is self.process.packed else "does its steps"
            raise StoreError(f"the process of stage {self.stage.shown} that {who} was killed")
        message, fds = received
        match message:
            case Began(number):
                self.current = self.steps[number]
                self.watcher.step_began(self.current.shown)
                if self.current.work is not None:
                    self.watcher.step_running(self.current.shown, self.process.container.short)
            case Finished(number, seconds, unread=unread):
                if unread:
                    self._show_all()
                    with suppress(BrokenPipeError):  # it was killed, which its connection tells
                        link.send(Printed())
                self.watcher.step_finished(self.steps[number].shown, seconds, "")
            case Broke():
                self._show_all()
                self.watcher.step_failed(self.steps[message.step].shown)
                self.broke = message
                # Now: to end the stage may free some, the reserve included.
                self.is_full = message.code in FULL or _is_full(self.store.root)
                self.ready = True
            case Ready():
                self.ready = True
                self.roots = fds
            case Unserved():
                self.process.serve(fds[0])
            case Kept(number, created, diff_id, chain):
                if number < 0:
                    self.packed = True
                    # If the disk is full this fails, and would hide why the step has failed.
                    if chain is not None and self.broke is None:
                        self.store.layers.need(chain)
                else:
                    self.made.chain = chain
                    step = self.steps[number]
                    self.made.take(created, step.created_by, diff_id, step.author)
            case Stopped() if self.broke is not None and message.step < 0:
                # The packer cannot end its lease, on a full disk say: that is not why.
                self.packed = True
            case Stopped():
                raise self._stopped(message) from (
                    # The cause tells a full disk, for which there is advice.
                    OSError(message.code, message.text) if message.code else None
                )

    def _stopped(self, message: Stopped) -> StoreError:
        if message.step < 0:
            return StoreError(message.text)
        step = self.steps[message.step]
        self.watcher.step_failed(step.shown)
        return StoreError(f"{_which(step)} failed: {message.text}\n  {_first_line(step)}")

    def failure(self, broke: Broke, *, keep: bool) -> StepError:
        """End the stage, whose step failed; return the error of the build.

        With `keep` its container stays, so that the user can look into it.
        """
        step = self.steps[broke.step]
        process = self.process
        # A copy that found the disk full left nothing to look into, and would keep the disk full.
        keep = keep and broke.code not in FULL
        process.kill()
        try:
            process.end()
            if keep:
                base = self.made.state.config if self.made.state is not None else {}
                process.keep(broke.status or 1, look_config(step.look, base))
            else:
                process.remove()
        except DiskFull as error:
            # This must not hide why the step failed.  The next build or `prune` removes it.
            self.is_full, keep = True, False
            log.debug("the container of %s is left as it is: %s", step.place, error)
        why = broke.text or f"its command ended with status {broke.status}"
        lines = [f"{_which(step)} failed: {why}", f"  {_first_line(step)}"]
        if self.is_full:
            lines.append(f"No space left on the disk of the store; {ADVICE}")
        if keep:
            name = process.container.name
            lines += [
                "Its container is kept, and the steps before it are cached:",
                f"  pyunion start -ai {name}   opens a shell in it",
                f"  pyunion diff {name}        shows what the step had changed",
                f"  pyunion rm {name}          removes it",
            ]
        return StepError(broke.status, "\n".join(lines))


def _is_full(root: Path) -> bool:
    """Tell whether the disk of the store is full for the command of a step.

    Blocks that are reserved for root are not for the root of a container.
    """
    disk = os.statvfs(root)
    free = disk.f_bavail * disk.f_frsize if disk.f_blocks else _SMALL
    return free < _SMALL or not has_room(root, _SMALL)


def _which(step: Step) -> str:
    return f"{step.place}: step {step.shown.number}/{step.shown.total}"


def _first_line(step: Step) -> str:
    return step.shown.text.splitlines()[0]


def wait(at_work: Sequence[AtWork]) -> None:
    """Wait until one of the stages sends a message or output, and handle it."""
    poll = select.poll()
    outputs = {one.process.output: one for one in at_work}
    links = {link.fileno(): (one, link) for one in at_work for link in one.links}
    for fd in (*outputs, *links):
        poll.register(fd, select.POLLIN)
    # Messages first: one of them says which step the output is of.
    for fd, event in sorted(poll.poll(), key=lambda found: found[0] in outputs):
        if fd in links:
            one, link = links[fd]
            one.take(link)
        elif outputs[fd].has_message():
            continue
        elif not outputs[fd].show_output() and event & select.POLLHUP:
            poll.unregister(fd)
