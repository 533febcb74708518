"""The process of a keeper, as the command that starts it sees it.

Decided here and only here: how it is forked, how it gets to know what to keep, and what its
report means.  A keeper can be forked before that is known: then it imports what it needs while
the command still reads its own command line, on another processor.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from layerstore.errors import StoreError
from mount_tools.container.handshake import REFUSED, CannotStart
from mount_tools.daemon.after_fork import release_stdio
from mount_tools.daemon.detach import begin_detached, detach
from mount_tools.daemon.report import Died, Failed, Report, Reporter

_LONGEST = 1 << 16
_RUN = "mount_tools.container.run"
# The daemon of the container's root is a fork of the keeper.
_OF_THE_DAEMON = (
    "mount_tools.daemon.log",
    "mount_tools.daemon.serve",
    "unionfs.transports.dev_fuse",
)


class Order(NamedTuple):
    """Which container to run, and how; `size` is that of its terminal at first."""

    root: str
    sync: bool
    container: str
    transport: str
    stdin: bool
    size: tuple[int, int] | None


class PreparedKeeper:
    """A keeper that has no container yet; the caller calls `run` or `cancel`."""

    def __init__(self) -> None:
        """Fork it.  It opens the store by itself."""
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = begin_detached(
                lambda reporter: _be_keeper(theirs, reporter), keep=(theirs.fileno(),)
            )
        except BaseException:
            self._orders.close()
            raise
        finally:
            theirs.close()

    def run(self, order: Order, viewer: socket.socket | None, whose: str) -> None:
        """Let it run a container, connected to `viewer`; return once the command runs.

        `whose` continues "the process that keeps …".  Raises CannotStart, and StoreError if the
        keeper dies.
        """
        with self._orders as orders:
            fds = [] if viewer is None else [viewer.fileno()]
            try:
                socket.send_fds(orders, [json.dumps(order).encode()], fds)
            except BrokenPipeError:
                pass  # it has died, and its report says so
        check_report(self._process.report(), whose)

    def cancel(self) -> None:
        """End it; it has done nothing yet."""
        self._orders.close()
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.report()


def _be_keeper(orders: socket.socket, reporter: Reporter) -> int:
    """Get ready, wait for an order, and run the container; return an exit status."""
    run = import_module(_RUN).keep
    for name in _OF_THE_DAEMON:
        import_module(name)
    gc.freeze()
    gc.enable()
    with orders:
        data, fds, _, _ = socket.recv_fds(orders, _LONGEST, 1)
    if not data:
        return 0  # the command has ended without an order
    release_stdio()
    root, sync, container, transport, stdin, size = json.loads(data)
    order = Order(root, sync, container, transport, stdin, None if size is None else tuple(size))
    viewer = socket.socket(fileno=fds[0]) if fds else None
    return _report_failures(reporter, lambda: run(order, viewer, reporter))


def leave_keeper(
    work: Callable[[Reporter], None], viewer: socket.socket | None, whose: str
) -> None:
    """Do `work` in a keeper in the background; return once it has reported that it is live.

    The keeper inherits `viewer`.  Raises as `PreparedKeeper.run` does.
    """

    def keep(reporter: Reporter) -> int:
        release_stdio()
        return _report_failures(reporter, lambda: work(reporter))

    check_report(detach(keep, keep=() if viewer is None else (viewer.fileno(),)), whose)


def check_report(report: Report, whose: str) -> None:
    """Raise CannotStart or StoreError unless the keeper is live."""
    match report:
        case Failed(status, text):
            raise CannotStart(status, text)
        case Died(how):
            raise StoreError(f"the process that keeps {whose} {how} before its command ran")


def _report_failures(reporter: Reporter, work: Callable[[], None]) -> int:
    """Do `work` in a keeper, report an error that stops it, and return an exit status."""
    try:
        work()
        return 0
    except CannotStart as error:
        status, text = error.status, str(error)
    except (StoreError, OSError) as error:
        status, text = REFUSED, str(error)
    except Exception as error:
        status, text = REFUSED, f"a bug in PyUnion ({type(error).__name__}: {error})"
    if not reporter.sent:
        reporter.failed(status, text)
    return status
