"""A daemon that is forked before it is known what it will serve.

The command forks it first of all, and then its keeper.  So it imports the union while the
command imports the store, on another processor, and the keeper needs no union at all.
The keeper tells it what to serve; if no process is left that could, it ends.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module

from mount_tools.daemon.detach import Outcome, begin_daemon, ended_within
from mount_tools.daemon.report import Live, Report, receive
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from mount_tools.container.root_options import RootOrder

MODULES = (
    "mount_tools.container.root_serving",
    "mount_tools.daemon.log",
    "unionfs.transports.dev_fuse",
)
"""What the daemon imports; whichever process forks one may do it before."""
_PIECE = 1 << 16
_FDS = 3  # the most that come with an order


class PreparedDaemon:
    """The daemon, for the process that forks it and for its keeper, which is forked later.

    The first calls `release` once the keeper is there, or `cancel`; the keeper calls `begin`,
    `report` and `ended_within`.
    """

    def __init__(self) -> None:
        """Fork it."""
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._daemon = begin_daemon(
                lambda live: _serve_when_told(theirs, live), keep=(theirs.fileno(),)
            )
        except BaseException:
            self._orders.close()
            raise
        finally:
            theirs.close()
        # The keeper is not its parent: for the keeper its pid may soon be another process's.
        self._pidfd = os.pidfd_open(self._daemon.pid)

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that the keeper needs."""
        return (self._orders.fileno(), self._daemon.reading, self._pidfd)

    def release(self) -> None:
        """Leave it to the keeper, which has these descriptors too."""
        self._orders.close()
        os.close(self._daemon.reading)
        os.close(self._pidfd)

    def cancel(self) -> None:
        """End it, in the process that forked it; released or not, it serves nothing yet."""
        os.kill(self._daemon.pid, signal.SIGKILL)
        os.waitpid(self._daemon.pid, 0)

    def begin(self, order: RootOrder, fds: Sequence[int]) -> None:
        """Let it serve what `order` says, with the descriptors of `root_serving.serve_order`."""
        send_order(self._orders, order, fds)

    def report(self) -> Report:
        """Return what it reports, and wait for the end of one that is not live."""
        try:
            report = receive(self._daemon.reading)
        finally:
            os.close(self._daemon.reading)
        if not isinstance(report, Live):
            self.ended_within(None)
        return report

    def ended_within(self, seconds: float | None) -> bool:
        """Tell whether it ends within so many seconds; None waits as long as it takes."""
        return ended_within(self._pidfd, seconds)

    def abandon(self) -> None:
        """End it, in the keeper, if it was not told what to serve."""
        if self._orders.fileno() >= 0:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self.ended_within(None)


def _serve_when_told(orders: socket.socket, live: Callable[[], None]) -> Outcome:
    for name in MODULES:
        import_module(name)
    from mount_tools.container.root_options import order_of
    from mount_tools.container.root_serving import serve_order

    gc.freeze()
    gc.enable()
    fields, fds = receive_order(orders)
    if not fields:
        os._exit(0)
    fuse, mounted, lock = fds
    return serve_order(order_of(fields), fuse, mounted, lock, live)


def send_order(to: socket.socket, order: Sequence[object], fds: Sequence[int]) -> None:
    """Send an order, whose fields are as JSON has them, with `fds`, and close `to`.

    If the receiver has died, its report says so.
    """
    data = json.dumps(order).encode()
    with to, suppress(BrokenPipeError, ConnectionResetError):
        sent = socket.send_fds(to, [data], fds)
        to.sendall(data[sent:])


def receive_order(end: socket.socket) -> tuple[list[Any], list[int]]:
    """Wait for an order; return its fields and descriptors, and close `end`.

    There are none if no process is left that could send one.
    """
    with end:
        data, fds, _, _ = socket.recv_fds(end, _PIECE, _FDS)
        while data and (piece := end.recv(_PIECE)):
            data += piece
    for fd in fds:
        os.set_inheritable(fd, False)
    return json.loads(data) if data else [], fds
