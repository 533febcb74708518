"""The packer of a stage: frozen layers become layers of the store, while the next steps run.

Decided here and only here: when a layer is packed and recorded.  Its diff_id is computed as
soon as it is frozen.  Layers that are packed within `SECONDS` are synced and recorded
together.

The packer is a process of its own, forked by the builder, outside of the stage's mount
namespace.  It also moves the stage's frozen layers to their places in the store.  It does
not end with the builder: if that is killed, the steps that are done get recorded, so that
the next build finds them.

Threading: one thread.
"""

from __future__ import annotations

import importlib
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from layerstore.containers.container import Container
from layerstore.errors import NoSuchContainer, StoreError
from layerstore.oci.digest import Digest
from layerstore.store import Store
from mount_tools.build.messages import Kept, Leased, Link, Message, Pack, Stopped
from unionfs.errors import error_text
from unionfs.light_typing import TYPE_CHECKING, NamedTuple
from unionfs.syscalls.privilege import is_machine_root

if TYPE_CHECKING:
    from layerstore.layer.pack import Packed

SECONDS = 0.25
"""How long a packed layer may wait for its row."""


class DoneStep(NamedTuple):
    """A step as it is recorded: what it made, and the chain below it."""

    step: int
    created_ns: int
    below: Digest | None
    diff_id: Digest | None
    chain: Digest | None


class _Waiting(NamedTuple):
    """A step that is done and not yet recorded; `path` and `packed` belong to its layer."""

    step: int
    created_ns: int
    number: int | None
    path: Path | None
    packed: Packed | None


Record = Callable[[Store, DoneStep], None]
"""Writes the row of a step into the build cache, within the packer's transaction."""


class Packer:
    """Packs and records the layers of the stage in `container`."""

    def __init__(
        self, store: Store, container: Container, record: Record, newest_ns: int | None
    ) -> None:
        """Files newer than `newest_ns` get that time; None leaves all times unchanged."""
        self._store = store
        self._container = container
        self._record = record
        self._newest_ns = newest_ns
        self._base = container.base
        self._below = [layer.diff for layer in store.layers.chain(container.base)]
        self._waiting: list[_Waiting] = []
        self.step = -1
        """The step whose layer was packed last."""

    def run(self, jobs: Link, builder: Link) -> None:
        """Pack each job of `jobs` until that connection ends; tell the `builder` what is recorded.

        Raises StoreError, and OSError if a file cannot be read or the disk is full.
        """
        poll = select.poll()
        poll.register(jobs.fileno(), select.POLLIN)
        with self._store.leases.lease("work", "build"):
            _tell(builder, Leased())
            importlib.import_module("layerstore.layer.pack")  # while the stage begins
            due = time.monotonic()
            while True:
                left = due - time.monotonic() if self._waiting else None
                if left is not None and (left <= 0 or not poll.poll(left * 1000)):
                    self._flush(builder)
                    continue
                received = jobs.receive()
                if received is None:
                    break
                message, _ = received
                if isinstance(message, Pack):
                    if not self._waiting:
                        due = time.monotonic() + SECONDS
                    self.step = message.step
                    self._waiting.append(self._pack(message))
            self._flush(builder)
            # From here on the builder has its own lease on the layers.
            _tell(builder, Kept(-1, 0, None, self._base))
            jobs.close()
            _wait_for(builder)

    def _pack(self, job: Pack) -> _Waiting:
        from layerstore.layer.pack import Packing, pack

        if job.number is None:
            return _Waiting(job.step, job.created_ns, None, None, None)
        path = self._container.directory / "layers" / str(job.number)
        diff = path / "diff"
        if self._newest_ns is not None:
            limit_times(diff, self._newest_ns)
        packed = pack(
            *(diff, self._below),
            privileged=is_machine_root(),
            record=path,
            how=Packing(any_names=job.any_names),
        )
        if packed.entries:
            self._below.insert(0, diff)
        return _Waiting(job.step, job.created_ns, job.number, path, packed)

    def _flush(self, builder: Link) -> None:
        """Record every step that is packed."""
        if not self._waiting:
            return
        done, self._waiting = self._waiting, []
        store = self._store
        if any(step.packed is not None and step.packed.entries for step in done):
            store.durability.tree(self._container.directory)
        kept = []
        with store.database.transaction():
            base = self._base
            published = self._container.published
            for step in done:
                below = base
                diff_id = None
                if step.packed is not None and step.path is not None and step.packed.entries:
                    diff_id = step.packed.diff_id
                    layer = store.layers.adopt(step.path, base, diff_id, step.packed.size)
                    base = layer.chain_id
                published = max(published, step.number or 0)
                self._record(store, DoneStep(step.step, step.created_ns, below, diff_id, base))
                kept.append(Kept(step.step, step.created_ns, diff_id, base))
            with suppress(NoSuchContainer):
                self._container = store.containers.update(
                    self._container, base=base, published=published
                )
        self._base = base
        store.layers.settle()
        self._below = [layer.diff for layer in store.layers.chain(base)]
        for message in kept:
            _tell(builder, message)


def _tell(builder: Link, message: Message) -> None:
    with suppress(BrokenPipeError):  # it was killed
        builder.send(message)


def _wait_for(builder: Link) -> None:
    """Wait until the builder closes its end: it then no longer needs our lease."""
    with suppress(OSError):
        builder.receive()


def run_packer(make: Callable[[], Packer], jobs: Link, builder: Link) -> int:
    """Make a packer and run it, in its own process; return its exit status."""
    code = 0
    packer = None
    try:
        packer = make()
        packer.run(jobs, builder)
        return 0
    except StoreError as error:
        text = str(error)
        cause = error.__cause__
        code = (cause.errno or 0) if isinstance(cause, OSError) else 0
    except OSError as error:
        text = f"its layer cannot be stored: {error_text(error)}"
        code = error.errno or 0
    except Exception as error:
        text = f"a bug in PyUnion ({type(error).__name__}: {error})"
    with suppress(OSError):
        builder.send(Stopped(text, code, -1 if packer is None else packer.step))
    return 1


def limit_times(tree: Path, newest_ns: int) -> None:
    """Set the modification time of everything in `tree` that is newer to `newest_ns`."""
    for folder, names, files, fd in os.fwalk(tree, topdown=False):
        del folder
        for name in (*names, *files):
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if found.st_mtime_ns > newest_ns:
                os.utime(name, ns=(newest_ns, newest_ns), dir_fd=fd, follow_symlinks=False)
    found = os.stat(tree)
    if found.st_mtime_ns > newest_ns:
        os.utime(tree, ns=(newest_ns, newest_ns))
