"""The supervisor of a mount whose transport runs on trio: signals, and the end.

A transport with threads of its own does without it: see `attend`.

Threading: trio runs the supervisor and the transport in the calling thread; only in the main
thread it takes signals.  What signals do runs in a worker thread, see `signals`.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import trio

from mount_tools.daemon.attend import takes_signals
from mount_tools.daemon.detach import WATCHED
from mount_tools.daemon.signals import SignalHandler
from mount_tools.daemon.transport import Carry, OnReady
from mount_tools.mount.fuse import FuseMount
from unionfs.errors import MountError
from unionfs.light_logging import Logger, take_logging
from unionfs.vfs import Filesystem, Notifier

log = Logger(__name__)


def supervise(fs: Filesystem, mount: FuseMount, carry: Carry, live: OnReady) -> bool:
    """Supervise `mount` while `carry` serves it; return whether it ended well.

    `live` is called when requests are answered.  It reports to the command that made the
    mount, and raises `BrokenPipeError` if that is gone.  In the main thread, signals that the
    caller blocked are delivered from now on.  Raises `MountError` if the transport cannot do what
    the options ask for.
    """

    take_logging()

    async def run() -> bool:
        if not takes_signals():
            return await Supervisor(fs, mount, live).run(carry, None)
        with trio.open_signal_receiver(*WATCHED) as signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
            return await Supervisor(fs, mount, live).run(carry, signals)

    return trio.run(run)


class Supervisor:
    """A live mount, its signals, and whether its command was told that it is live."""

    def __init__(self, fs: Filesystem, mount: FuseMount, live: OnReady) -> None:
        """`live` is what `supervise` takes."""
        self._mount = mount
        self._live = live
        self._ready = trio.Event()
        self._notifier: Notifier | None = None
        self._handler = SignalHandler(fs, mount)

    async def run(self, carry: Carry, signals: AsyncIterator[int] | None) -> bool:
        """Serve until the kernel ends the connection; return whether it ended well.

        `signals` are those of the process, None if they are not the mount's.

        Raises `MountError` if the transport cannot do what the options ask for.
        """
        healthy = True
        refused: MountError | None = None
        async with trio.open_nursery() as nursery:
            if signals is not None:
                nursery.start_soon(self._watch, signals)
            nursery.start_soon(self._announce)
            try:
                await carry(self._on_ready)
            except MountError as error:
                # Nobody has used the mount yet, so it can be undone.
                refused = error
                await trio.to_thread.run_sync(self._handler.unmount)
            except Exception:
                # The dead mount stays if it was in use: programs that work on it must get
                # errors, not an empty directory (think of rsync --delete).
                log.exception("the transport failed; %s is dead", self._mount.point)
                healthy = False
                if not self._ready.is_set():
                    await trio.to_thread.run_sync(self._handler.unmount)
            nursery.cancel_scope.cancel()
        if refused is not None:
            raise refused
        return healthy

    def _on_ready(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._ready.set()

    async def _announce(self) -> None:
        await self._ready.wait()
        assert self._notifier is not None
        try:
            self._live(self._notifier)
        except BrokenPipeError:
            await trio.to_thread.run_sync(self._handler.undo)

    async def _watch(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            await trio.to_thread.run_sync(self._handler.take, number)
