"""The supervisor of a mount while it is served: signals, the control socket, the end.

Decided here and only here: what signals do.  SIGTERM, SIGINT and SIGHUP unmount; a mount in
use is detached and served until the kernel ends the connection.  If another mount namespace
keeps it alive, the log says which, and a second SIGTERM aborts the connection.  SIGUSR1
logs the counters.

Threading: trio runs the supervisor in the main thread, and with it a transport without
threads of its own.  The unmount runs in a worker thread, since the kernel may send requests
to the transport before umount2(2) returns.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable

import trio

from mount_tools.daemon.control_server import Control, serve_control
from mount_tools.daemon.detach import WATCHED
from mount_tools.daemon.transport import Carry, Running
from mount_tools.mount.fuse import FuseMount
from mount_tools.mount.holders import abort_connection, holders
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
        self._unmounted = False
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
                await self._unmount()
            except Exception:
                # The dead mount stays if it was in use: programs that work on it must get
                # errors, not an empty directory (think of rsync --delete).
                log.exception("the transport failed; %s is dead", self._mount.point)
                healthy = False
                if not self._ready.is_set():
                    await self._unmount()
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
            log.warning("the command that mounted %s has gone; unmounting", self._mount.point)
            await self._unmount()

    async def _answer(self, listener: socket.socket) -> None:
        """Serve the control socket; the mount goes on without it if that fails."""
        control = Control(self._fs, self._mount.point, lambda: self.notifier)
        try:
            await serve_control(listener, control)
        except Exception:
            log.exception("the control socket of %s failed", self._mount.point)

    async def _watch(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGUSR1:
                try:
                    self._log_counters()
                except Exception:
                    log.exception("the counters cannot be read")
            elif number == signal.SIGTERM and self._unmounted:
                await self._abort()
            else:
                log.info("%s: unmounting %s", signal.Signals(number).name, self._mount.point)
                await self._unmount()
                if self._unmounted:
                    await self._tell_holders()

    async def _unmount(self) -> None:
        try:
            await trio.to_thread.run_sync(self._mount.unmount)
            self._unmounted = True
        except (OSError, MountError) as error:
            log.error("cannot unmount %s: %s; still serving it", self._mount.point, error)

    async def _tell_holders(self) -> None:
        """Log which mount namespaces keep the unmounted filesystem alive, if any do."""
        device = self._mount.device
        if device is None:
            return
        found = await trio.to_thread.run_sync(holders, device)
        if found:
            log.warning(
                "%s is unmounted here, but still mounted in other mount namespaces, and served "
                "until they end: %s; a second SIGTERM aborts the connection",
                self._mount.point,
                ", ".join(map(str, found)),
            )

    async def _abort(self) -> None:
        log.warning("second SIGTERM: aborting the connection of %s", self._mount.point)
        device = self._mount.device
        try:
            if device is None:
                raise MountError("the device of the mount is not known")
            await trio.to_thread.run_sync(abort_connection, device)
        except MountError as error:
            log.error("%s; still serving %s", error, self._mount.point)

    def _log_counters(self) -> None:
        counters = self._fs.counters()
        log.info("counters: %s", " ".join(f"{name}={n}" for name, n in counters.items()))
