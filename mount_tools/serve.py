"""One mount, from the open union to its end: choose a transport, mount, run, unmount.

Decided here and only here: the order of these steps, and what signals do.
SIGTERM, SIGINT and SIGHUP unmount; a mount in use is detached, and served
until the kernel is done with it.  SIGUSR1 logs the counters.

Threading: trio runs the transport and the signals in the main thread; the
unmount runs in a worker, since the kernel may ask the transport for things
before it is through.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

import trio

from mount_tools.control import Control, listen, serve_control
from mount_tools.daemon import BUG, OK, SYSTEM, Outcome
from mount_tools.fuse_mount import FuseMount, adopt, mount_fuse
from mount_tools.mount_point import check_layers_apart, checked_mount_point, inherited_fd
from mount_tools.options import MountOptions
from mount_tools.succession import announce_closing, await_predecessor
from unionfs.core.union import open_union
from unionfs.errors import ConfigError, MountError
from unionfs.syscalls.mount import enter_mount_namespace
from unionfs.vfs import Filesystem, Notifier

log = logging.getLogger(__name__)

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# In the order in which `-o transport=auto` tries them, the faster one first.
TRANSPORTS = {
    "dev_fuse": "unionfs.transports.dev_fuse",
    "pyfuse3": "unionfs.transports.pyfuse3_ops",
}


class Carry(Protocol):
    """What a transport module offers as `carry`; see `pyfuse3_ops.carry`."""

    async def __call__(
        self,
        fs: Filesystem,
        fuse_fd: int,
        *,
        timeout: float | None,
        acl: bool,
        xattrs: bool,
        on_ready: Callable[[Notifier], None],
    ) -> None: ...


def load_transport(options: MountOptions) -> Carry:
    """Return the transport that is asked for, or for "auto" the first that can be had here.

    Raises `MountError` with the reasons where there is none.
    """
    wanted = options.transport
    names = TRANSPORTS if wanted == "auto" else (wanted,)
    reasons = []
    carry: Carry
    for name in names:
        try:
            module = importlib.import_module(TRANSPORTS[name])
        except ImportError as error:
            reasons.append(f"{name}: {error}")
            continue
        if name == "dev_fuse":
            if wanted == "auto" and (reason := module.why_not()):
                reasons.append(f"{name}: {reason}")
                continue
            carry = partial(
                module.carry, io_uring=options.io_uring, passthrough=options.passthrough
            )
        else:
            carry = module.carry
        passed_over = f" (not {'; '.join(reasons)})" if reasons else ""
        log.info("transport %s%s", name, passed_over)
        return carry
    raise MountError(f"no transport can be had: {'; '.join(reasons)}")


def serve(
    directory: str, options: MountOptions, live: Callable[[], None], namespace: str | None = None
) -> Outcome:
    """Mount the union that `options` describe on `directory` and serve it to its end.

    `live()` is called once the kernel has begun to use the mount.  `namespace`
    is the path of a mount namespace to mount in.  Changes the umask and the
    limit of open files of this process.

    Raises `ConfigError` or `MountError` with nothing mounted.
    """
    os.umask(0)
    _raise_file_limit()
    carry = load_transport(options)
    if namespace is not None:
        # Not earlier: the modules above come from the namespace we started in.
        enter_mount_namespace(os.fsencode(namespace))
    fd = inherited_fd(directory)
    if fd is None:
        directory = checked_mount_point(directory)
        check_layers_apart(options.union, directory)
    return trio.run(_run, directory, fd, options, carry, live)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(
    directory: str, fd: int | None, options: MountOptions, carry: Carry, live: Callable[[], None]
) -> Outcome:
    # From here on a signal is kept until there is a mount to undo.
    with trio.open_signal_receiver(*ENDING, signal.SIGUSR1) as signals:
        for writable in filter(None, (options.union.upper, options.union.work)):
            await_predecessor(writable)
        try:
            fs = open_union(options.union)
        except OSError as error:
            raise ConfigError(_why_not_open(error)) from None
        try:
            listener = _listen(options.control)
            mount = mount_fuse(directory, options) if fd is None else adopt(fd)
        except BaseException:
            fs.close()
            raise
        log.info("mounted on %s", mount.point)
        try:
            healthy = await _Session(fs, mount, options, live).run(carry, signals, listener)
        except MountError:
            fs.close()
            raise
        finally:
            if options.control is not None:
                with suppress(FileNotFoundError):
                    os.unlink(options.control)
        announce_closing()
        try:
            fs.close()
        except Exception:
            log.exception("%s did not close cleanly", mount.point)
            return Outcome(SYSTEM)
    if not healthy:
        return Outcome(
            BUG, f"a bug in PyUnion: nothing serves {directory}; the log has the details"
        )
    log.info("unmounted from %s", mount.point)
    return Outcome(OK)


def _listen(path: str | None) -> socket.socket | None:
    """Return the control socket at `path`, if one is asked for."""
    if path is None:
        return None
    try:
        return listen(path)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"control={path} is another mount's; choose another path") from None
        raise ConfigError(f"control={path} cannot be made: {error.strerror}") from None


def _why_not_open(error: OSError) -> str:
    where = f" {os.fsdecode(error.filename)}" if isinstance(error.filename, (str, bytes)) else ""
    return f"the layers cannot be opened:{where} {error.strerror or error}"


class _Session:
    """A live mount, its signals, and whether the command that made it knows."""

    def __init__(
        self, fs: Filesystem, mount: FuseMount, options: MountOptions, live: Callable[[], None]
    ) -> None:
        self._fs = fs
        self._mount = mount
        self._options = options
        self._live = live
        self._ready = trio.Event()
        self.notifier: Notifier | None = None

    async def run(
        self,
        carry: Carry,
        signals: AsyncIterator[int],
        listener: socket.socket | None = None,
    ) -> bool:
        """Serve until the kernel ends the connection; tell whether it went well.

        Raises `MountError` where the transport cannot do what was asked of it.
        """
        healthy = True
        refused: MountError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, signals)
            nursery.start_soon(self._announce)
            if listener is not None:
                control = Control(self._fs, self._mount.point, lambda: self.notifier)
                nursery.start_soon(serve_control, listener, control)
            try:
                await carry(
                    self._fs,
                    self._mount.fd,
                    timeout=self._options.union.timeout,
                    acl=self._options.acl,
                    xattrs=self._options.xattrs,
                    on_ready=self._on_ready,
                )
            except MountError as error:
                # Nobody has used the mount yet: what was asked of it cannot be had.
                refused = error
                await self._unmount()
            except Exception:
                # The dead mount stays if it was in use: whoever works on it must
                # get errors, not an empty directory (think of rsync --delete).
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

    async def _watch(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGUSR1:
                try:
                    self._log_counters()
                except Exception:
                    log.exception("the counters cannot be had")
            else:
                log.info("%s: unmounting %s", signal.Signals(number).name, self._mount.point)
                await self._unmount()

    async def _unmount(self) -> None:
        try:
            await trio.to_thread.run_sync(self._mount.unmount)
        except (OSError, MountError) as error:
            log.error("cannot unmount %s: %s; still serving it", self._mount.point, error)

    def _log_counters(self) -> None:
        counters = self._fs.counters()
        log.info("counters: %s", " ".join(f"{name}={n}" for name, n in counters.items()))
