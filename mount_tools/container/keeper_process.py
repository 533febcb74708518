"""The process of a keeper, as the command that starts it sees it.

Decided here and only here: how it is forked, how it gets to know what to keep, and what its
report means.  A keeper is forked before that is known: so it can import what it needs while
the command still reads its own command line, on another processor.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import gc
import os
import select
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module

from layerstore.errors import StoreError
from layerstore.light_json import dumps
from layerstore.oci.json_values import Object, loads
from mount_tools.container.handshake import REFUSED, CannotStart
from mount_tools.container.process_title import show_as_keeper
from mount_tools.daemon.after_fork import release_stdio
from mount_tools.daemon.detach import begin_detached
from mount_tools.daemon.report import Died, Failed, Report, Reporter
from unionfs import light_socket as socket
from unionfs.errors import error_text
from unionfs.light_typing import TYPE_CHECKING, NamedTuple
from unionfs.syscalls.signalfd import signalfd

if TYPE_CHECKING:
    from typing import Any

_PIECE = 1 << 16
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
# Seconds that a command which was told to end still waits for its keeper.
PATIENCE = 5.0


class RunOrder(NamedTuple):
    """Which container to run, and how; `size` is that of its terminal at first."""

    root: str
    sync: bool
    container: str
    transport: str
    stdin: bool
    size: tuple[int, int] | None


class ExecOrder(NamedTuple):
    """In which container to run one more command, of that configuration.

    `init` is the container's first process, a ProcessId as JSON has it.
    """

    root: str
    container: str
    init: tuple[int, int]
    config: Object
    stdin: bool
    size: tuple[int, int] | None


Order = RunOrder | ExecOrder


class Kind(NamedTuple):
    """A kind of keeper: the module whose `keep` it calls, and others to import in time."""

    order: type[Order]
    module: str
    others: tuple[str, ...] = ()


RUN = Kind(RunOrder, "mount_tools.container.run", ("unionfs.transports.dev_fuse",))
EXEC = Kind(ExecOrder, "mount_tools.container.exec")


class PreparedKeeper:
    """A keeper that has no command yet; the caller calls `keep` or `cancel`."""

    def __init__(self, kind: Kind) -> None:
        """Fork it.  It opens the store by itself."""
        self._kind = kind
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._process = begin_detached(
                lambda reporter: _be_keeper(kind, theirs, reporter), keep=(theirs.fileno(),)
            )
        except BaseException:
            self._orders.close()
            raise
        finally:
            theirs.close()

    def keep(self, order: Order, viewer: socket.socket | None, whose: str) -> None:
        """Let it run a command, connected to `viewer`; return once the command runs.

        `whose` continues "the process that keeps …".  Raises CannotStart, and StoreError if the
        keeper dies.  With a `viewer` the caller has blocked the signals that end a process: one
        of them ends a keeper that does not get on, and raises StoreError.
        """
        if not isinstance(order, self._kind.order):
            raise TypeError(f"{order} is not for a keeper of {self._kind.module}")
        _send_order(self._orders, order, [] if viewer is None else [viewer.fileno()])
        if viewer is not None and not self._gets_on():
            os.kill(self._process.pid, signal.SIGKILL)
            # It does not end while it waits for a mount that nobody serves.
            self._process.ended_within(PATIENCE)
            raise StoreError(f"interrupted while {whose} was being started")
        check_report(self._process.report(), whose)

    def _gets_on(self) -> bool:
        """Wait until it reports; tell whether it does so before we should end.

        What a container has mounted may never answer the keeper of a command that enters it.
        """
        ending = [one for one in _ENDING if signal.getsignal(one) != signal.SIG_IGN]
        pending = signalfd(ending)
        try:
            poll = select.poll()
            poll.register(self._process.reading, select.POLLIN)
            poll.register(pending, select.POLLIN)
            if any(fd == self._process.reading for fd, _ in poll.poll()):
                return True
            poll.unregister(pending)
            return bool(poll.poll(PATIENCE * 1000))
        finally:
            os.close(pending)

    def cancel(self) -> None:
        """End it; it has done nothing yet."""
        self._orders.close()
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.report()


def _be_keeper(kind: Kind, orders: socket.socket, reporter: Reporter) -> int:
    """Get ready, wait for an order, and carry it out; return an exit status."""
    module = import_module(kind.module)
    for name in kind.others:
        import_module(name)
    gc.freeze()
    gc.enable()
    fields, fds = _receive_order(orders)
    if not fields:
        return 0  # the command has ended without an order
    release_stdio()
    order = kind.order(*fields)
    show_as_keeper(order.container, order.root)
    viewer = socket.socket(fileno=fds[0]) if fds else None
    return _report_failures(reporter, lambda: module.keep(order, viewer, reporter))


def _send_order(to: socket.socket, order: Order, fds: Sequence[int]) -> None:
    """Send an order, whose fields are as JSON has them, with `fds`, and close `to`.

    If the receiver has died, its report says so.
    """
    data = dumps(order).encode()
    with to, suppress(BrokenPipeError, ConnectionResetError):
        sent = socket.send_fds(to, [data], fds)
        to.sendall(data[sent:])


def _receive_order(end: socket.socket) -> tuple[list[Any], list[int]]:
    """Wait for an order; return its fields and descriptors, and close `end`.

    There are none if no process is left that could send one.
    """
    with end:
        data, fds, _, _ = socket.recv_fds(end, _PIECE, 1)
        while data and (piece := end.recv(_PIECE)):
            data += piece
    for fd in fds:
        os.set_inheritable(fd, False)
    fields = loads(data.decode()) if data else []
    assert isinstance(fields, list)
    return fields, fds


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
    except StoreError as error:
        status, text = REFUSED, str(error)
    except OSError as error:
        status, text = REFUSED, error_text(error)
    except Exception as error:
        status, text = REFUSED, f"a bug in PyUnion ({type(error).__name__}: {error})"
    if not reporter.sent:
        reporter.failed(status, text)
    return status
