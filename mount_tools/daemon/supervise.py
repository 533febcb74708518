"""The supervisor of a mount that needs trio: its control socket, signals, the end.

Mounts without a control socket on a transport with threads of its own do without it: see
`attend`.

Threading: trio runs the supervisor in the main thread, and with it a transport without
threads of its own.  What signals do runs in a worker thread, see `signals`.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable

import trio

from mount_tools.daemon.control_server import Control, serve_control
from mount_tools.daemon.detach import WATCHED
from mount_tools.daemon.signals import SignalHandler
from mount_tools.daemon.transport import Carry, Running
from mount_tools.mount.fuse import FuseMount
from unionfs.errors import MountError
from unionfs.vfs import Filesystem, Notifier

log = logging.getLogger(__name__)


def supervise(
    fs: Filesystem,
    mount: FuseMount,
    live: Callable[[], None],
    carry: Carry,
    listener: socket.socket | None,
) -> bool:
    """Supervise `mount` while `carry` serves it; return whether it ended well.

    `live` reports to the command that made the mount, and raises `BrokenPipeError` if that
    is gone.  Signals that the caller blocked are delivered from now on.  Raises `MountError`
    if the transport cannot do what the options ask for.
    """

    async def run() -> bool:
        with trio.open_signal_receiver(*WATCHED) as signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
            return await Session(fs, mount, live).run(carry, signals, listener)

    return trio.run(run)


def carry_on(running: Running) -> Carry:
    """Return a `Carry` that waits for the end of a connection that is already being served."""

    async def carry(on_ready: Callable[[Notifier], None]) -> None:
        on_ready(running.notifier)
        await trio.to_thread.run_sync(running.join)

    return carry


class Session:
    """A live mount, its signals, and whether its command was told that it is live."""

    def __init__(self, fs: Filesystem, mount: FuseMount, live: Callable[[], None]) -> None:
        """`live` is what `supervise` takes."""
        self._fs = fs
        self._mount = mount
        self._live = live
        self._ready = trio.Event()
        self._handler = SignalHandler(fs, mount)
        self.notifier: Notifier | None = None

    async def run(
        self,
        carry: Carry,
        signals: AsyncIterator[int],
        listener: socket.socket | None = None,
    ) -> bool:
        """Serve until the kernel ends the connection; return whether it ended well.

        Raises `MountError` if the transport cannot do what the options ask for.
        """
        healthy = True
        refused: MountError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, signals)
            nursery.start_soon(self._announce)
            if listener is not None:
                nursery.start_soon(self._answer, listener)
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
        self.notifier = notifier
        self._ready.set()

    async def _announce(self) -> None:
        await self._ready.wait()
        try:
            self._live()
        except BrokenPipeError:
            await trio.to_thread.run_sync(self._handler.undo)

    async def _answer(self, listener: socket.socket) -> None:
        """Serve the control socket; the mount goes on without it if that fails."""
        control = Control(self._fs, self._mount.point, lambda: self.notifier)
        try:
            await serve_control(listener, control)
        except Exception:
            log.exception("the control socket of %s failed", self._mount.point)

    async def _watch(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            await trio.to_thread.run_sync(self._handler.take, number)
