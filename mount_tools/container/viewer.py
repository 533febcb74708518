"""A viewer of a container: our stdin, stdout and stderr, connected to the container's keeper.

Decided here and only here: the mode of our terminal meanwhile (raw, if the command has a
terminal and gets what is typed, since its own terminal makes signals of keys), that the mode
is always restored, which signals are passed on, and what ends a viewer while the command
runs on: the detach keys, a terminal that hangs up, and a signal or Ctrl-C that the keeper does
not take.

Threading: one thread, which has the signals of `signals.TAKEN` blocked.

Source: docker/cli `cli/command/container/hijack.go`, `signals.go`.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import termios
import tty
from collections.abc import Callable
from contextlib import suppress

from layerstore.errors import StoreError
from mount_tools.container.attach_messages import (
    PIECE,
    Connection,
    Ended,
    Gone,
    Input,
    InputEnd,
    Output,
    OutputClosed,
    Resize,
    Signal,
    Taken,
    pair,
)
from mount_tools.container.detach_keys import DetachKeys
from mount_tools.container.signals import TAKEN, held
from mount_tools.container.terminal import size_of_ours
from unionfs import light_socket as socket
from unionfs.errors import error_text
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.signalfd import signalfd

PATIENCE = 3.0
"""Seconds for the keeper to take a signal."""

_CTRL_C = b"\x03"
_NO_END = (signal.SIGWINCH, signal.SIGCONT)


class PassedOn(NamedTuple):
    """What the command that is shown gets of ours, and what ends that."""

    stdin: bool = True
    """Whether it gets what comes from our stdin."""
    keys: bytes = b""
    """Those of `detach_keys` that leave it running; b"" for none."""
    signals: bool = True
    """Whether it gets the signals that we get; if not, they end the viewing."""


class Detached(NamedTuple):
    """The viewing ended and the command goes on; by the keys, or because we hung up."""

    by_keys: bool


class Lost(NamedTuple):
    """The keeper was killed, and with it the command."""


Outcome = Ended | Detached | Lost


class Unanswered(StoreError):
    """The keeper has not taken a signal for some time; `status` is ours to end with."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"{signal.Signals(number).name} did not reach the command: the process that keeps it "
            f"has not answered for {PATIENCE:.0f} s; `pyunion stop` ends a container whose keeper "
            "was stopped"
        )
        self.status = 128 + number


class OutputLost(StoreError):
    """Our stdout or stderr did not take what the command printed; `status` is ours to end with."""

    def __init__(self, status: int, error: OSError) -> None:
        super().__init__(f"the output cannot be written: {error_text(error)}")
        self.status = status or 1


def status_of(outcome: Outcome, status_if_lost: Callable[[], int]) -> int:
    """Return the exit status for how a viewing ended."""
    match outcome:
        case Ended(status):
            return status
        case Detached(by_keys):
            return 0 if by_keys else 128 + signal.SIGHUP
        case Lost():
            return status_if_lost()


def view_new(
    leave: Callable[[socket.socket], None],
    status_if_lost: Callable[[], int],
    passed_on: PassedOn,
    *,
    terminal: bool,
) -> int:
    """Call `leave`, which leaves a keeper behind, connected to its argument; be its first viewer.

    Returns the exit status of the command.  Raises OutputLost.
    """
    # Signals for the command are blocked until the command exists.
    with held():
        ours, theirs = pair()
        try:
            leave(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        with Viewer(Connection(ours), passed_on, terminal=terminal) as viewer:
            return viewer.status(status_if_lost)


class Viewer:
    """Shows a command here until it ends; a context manager, which closes the connection.

    `terminal` says whether the command has one; only then the user can type keys to leave it.
    """

    def __init__(self, connection: Connection, passed_on: PassedOn, *, terminal: bool) -> None:
        self._connection = connection
        self._terminal = terminal
        self._passed_on = passed_on
        self._keys = DetachKeys(passed_on.keys if terminal else b"")
        self._closed: set[int] = set()
        self._lost: OSError | None = None
        self._unsent: Input | InputEnd | None = None
        self._before: list[object] | None = None
        self._untaken = 0  # the last signal that was passed on, until the keeper takes it

    def __enter__(self) -> Viewer:
        self._signals = signalfd(TAKEN)
        self._poll = select.poll()
        for fd in (self._signals, self._connection.fileno()):
            self._poll.register(fd, select.POLLIN)
        if self._passed_on.stdin:
            self._poll.register(0, select.POLLIN)
        if self._terminal and self._passed_on.stdin:
            with suppress(termios.error):
                self._before = termios.tcgetattr(0)
                tty.setraw(0, termios.TCSANOW)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._before is not None:
                with suppress(termios.error):  # it may have hung up
                    termios.tcsetattr(0, termios.TCSANOW, self._before)  # type: ignore[arg-type]
        finally:
            os.close(self._signals)
            self._connection.close()

    def redraw(self) -> None:
        """Make the command draw its screen again, for a viewer that came later."""
        size = size_of_ours()
        if self._terminal and size is not None:
            rows, columns = size
            self._tell_size(rows + 1, columns)
            self._tell_size(rows, columns)

    def status(self, if_lost: Callable[[], int]) -> int:
        """View, and return the exit status for how that ended.

        `if_lost` returns that of a command whose keeper was killed.  Raises OutputLost if not all
        output could be written; a reader that is gone wants no more of it.  Raises Unanswered.
        """
        status = status_of(self.view(), if_lost)
        if self._lost is not None:
            raise OutputLost(status, self._lost)
        return status

    def view(self) -> Outcome:
        """Copy in both directions until the command ends, or we leave it.  Raises Unanswered."""
        while True:
            found = self._poll.poll(PATIENCE * 1000 if self._untaken else None)
            if not found:
                if self._connection.unread():
                    raise Unanswered(self._untaken)
                self._untaken = 0
            for fd, event in found:
                try:
                    if fd == self._signals:
                        outcome = self._take_signal()
                    elif fd == 0:
                        outcome = self._read_stdin()
                    else:
                        outcome = self._hear(event)
                except Gone:
                    outcome = self._last_words()
                if outcome is not None:
                    return outcome

    def _hear(self, event: int) -> Outcome | None:
        if event & select.POLLOUT:
            self._send_input()
        while (message := self._connection.receive()) is not None:
            match message:
                case Output(fd, data):
                    self._say(fd, data)
                case Taken():
                    self._poll.register(0, select.POLLIN)
                case Ended():
                    return message
        return None

    def _last_words(self) -> Outcome:
        """Return how it ended: the keeper has closed its end, maybe after Ended."""
        while True:
            try:
                message = self._connection.receive()
            except Gone:
                return Lost()
            match message:
                case Output(fd, data):
                    with suppress(Gone):
                        self._say(fd, data)
                case Ended():
                    return message
                case None:
                    return Lost()

    def _say(self, fd: int, data: bytes) -> None:
        if fd in self._closed:
            return
        try:
            while data:
                select.select((), (fd,), ())  # another process may have made it non-blocking
                with suppress(BlockingIOError):
                    data = data[os.write(fd, data) :]
        except OSError as error:
            # The command must not wait for a reader that does not exist any more.
            if error.errno != errno.EPIPE and not self._terminal:
                self._lost = error
            self._closed.add(fd)
            self._connection.send(OutputClosed(fd))

    def _read_stdin(self) -> Outcome | None:
        try:
            data = os.read(0, PIECE)
        except BlockingIOError:  # another process has made it non-blocking, and read it first
            return None
        except OSError:
            data = b""
        # No more is read until the command has this.
        self._poll.unregister(0)
        if not data:
            self._unsent = InputEnd()
        else:
            data, left = self._keys.feed(data)
            if left:
                return Detached(by_keys=True)
            if not data:
                self._poll.register(0, select.POLLIN)
                return None
            self._unsent = Input(data)
            if self._terminal and _CTRL_C in data:
                self._untaken = signal.SIGINT
        self._send_input()
        return None

    def _send_input(self) -> None:
        events = select.POLLIN
        if self._unsent is not None and not self._connection.send(self._unsent):
            events |= select.POLLOUT
        else:
            self._unsent = None
        self._poll.modify(self._connection.fileno(), events)

    def _take_signal(self) -> Outcome | None:
        taken = signal.sigtimedwait(TAKEN, 0)
        if taken is None or taken.si_signo == signal.SIGCHLD:
            return None
        number = taken.si_signo
        if number == signal.SIGWINCH:
            size = size_of_ours()
            if self._terminal and size is not None:
                self._tell_size(*size)
        elif signal.getsignal(number) == signal.SIG_IGN:
            return None  # ignored, by nohup(1) say: that is meant for all that runs below it
        elif number == signal.SIGHUP and (self._terminal or taken.si_code > 0):
            return Detached(by_keys=False)  # our terminal is gone, not the command's
        elif self._passed_on.signals:
            self._connection.send(Signal(number))
            if number not in _NO_END:
                self._untaken = number
        else:
            return Detached(by_keys=False)
        return None

    def _tell_size(self, rows: int, columns: int) -> None:
        self._connection.send(Resize(rows, columns))
