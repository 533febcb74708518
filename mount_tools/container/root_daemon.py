"""A container's root: the mount, and the daemon that serves it, as the keeper sees them.

The root is mounted in the container's mount namespace and served by a daemon outside of it.
So the mount ends with the last process of the container, whatever else was killed, and the
daemon then writes the upper back and ends.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from layerstore.errors import StoreError
from mount_tools.container.prepared_daemon import PreparedDaemon
from mount_tools.container.root_options import RootOrder
from mount_tools.daemon.detach import OK, begin_daemon, outcome_of
from mount_tools.daemon.handover import GRACE, await_predecessor
from mount_tools.daemon.report import Report
from mount_tools.mount.fuse import mount_on_fd
from mount_tools.mount.mount_options import MountOptions
from unionfs.errors import MountError
from unionfs.light_typing import NamedTuple, Protocol


class FuseRoot(NamedTuple):
    """A container's root: a union that will be served at `fuse`, a `/dev/fuse`."""

    fuse: int
    point: str
    options: MountOptions

    def mount(self) -> str:
        try:
            mount_on_fd(self.fuse, self.point, self.options)
        except MountError as error:
            raise StoreError(str(error)) from None
        return self.point


class _Process(Protocol):
    def report(self) -> Report: ...

    def ended_within(self, seconds: float) -> bool: ...


def daemon_of(
    order: RootOrder, fuse: int, lock: int, prepared: PreparedDaemon | None
) -> RootDaemon:
    """Start the daemon of a container's root; it opens the union before that is mounted.

    That is `prepared`, or a new fork.  `lock` is the container's lock, which it needs for a
    while too.  The caller calls `serve` or `cancel`.
    """

    def begin(mounted: int) -> _Process:
        fds = (fuse, mounted, lock)
        if prepared is not None:
            prepared.begin(order, fds)
            return prepared
        from mount_tools.container.root_serving import serve_order  # it needs the union

        return begin_daemon(lambda live: serve_order(order, *fds, live), keep=fds)

    return RootDaemon(os.fsencode(order.upper), begin)


def serve_root(root: FuseRoot) -> None:
    """Start the daemon of the mounted root; return when it serves.  Raises StoreError."""
    from mount_tools.container.root_serving import serve_in_namespace

    def begin(mounted: int) -> _Process:
        return begin_daemon(
            lambda live: serve_in_namespace(root.fuse, root.options, live, mounted),
            keep=(root.fuse, mounted),
        )

    RootDaemon(root.options.union.upper, begin).serve()


class RootDaemon:
    """The daemon that will serve a container's root."""

    def __init__(self, upper: bytes | None, begin: Callable[[int], _Process]) -> None:
        """`begin` starts it, with a socket from which it hears that the root is mounted."""
        self._upper = upper
        self._told = self._live = False
        self._mounted, mounted = socket.socketpair()
        try:
            self._daemon = begin(mounted.fileno())
        except BaseException:
            self._mounted.close()
            raise
        finally:
            mounted.close()

    def serve(self, init: int | None = None) -> None:
        """Let it serve the root, which is mounted now; return when it does.  Raises StoreError.

        If this process then ends before the process `init` does, the daemon kills that.
        """
        self._told = True
        fds = [] if init is None else [os.pidfd_open(init)]
        try:
            with suppress(BrokenPipeError):  # it has ended, and its report says why
                socket.send_fds(self._mounted, [b"m"], fds)
        finally:
            for fd in fds:
                os.close(fd)
        if init is None:
            self._mounted.close()
        outcome = outcome_of(self._daemon.report())
        if outcome.status != OK:
            raise StoreError(outcome.message)
        self._live = True

    def cancel(self) -> None:
        """Let it end; if it serves already, the caller has ended the processes of the mount."""
        if not self._told:
            self._told = True
            self._mounted.close()
            self._daemon.report()
        elif self._live:
            self.await_end()
        self._mounted.close()

    def await_end(self) -> None:
        """Return when it has ended, or when another mount namespace keeps the mount alive."""
        if not self._daemon.ended_within(GRACE) and self._upper is not None:
            await_predecessor(self._upper)
        self._mounted.close()
