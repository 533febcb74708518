"""The messages between a container's keeper and its viewers.

    viewer                                   keeper
       |--------- Watch ------------------------>|  the first, on the keeper's socket only
       |<-------- Output, Logged ----------------|
       |--------- Input, InputEnd -------------->|
       |<-------- Taken -------------------------|  the next Input may be sent
       |--------- Resize, Signal, OutputClosed ->|
       |<-------- Ended -------------------------|  the command has ended, and that is recorded

Decided here and only here: what these messages are.  A viewer may close the connection at
any time, and the container keeps running.  A keeper that closes it without Ended was killed.

A viewer sends one Input at a time.  More would fill the connection while the command reads
nothing, and a signal could not pass.

Source: unix(7) SOCK_SEQPACKET.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from pathlib import Path

from unionfs import light_socket as socket
from unionfs.light_typing import NamedTuple

PIECE = 1 << 16  # bytes; the most in one Output or Input
_LONGEST = PIECE + 64
SOCKET = "attach.sock"


class Watch(NamedTuple):
    """What the viewer wants to get: the command's output, or only a notice of new log lines."""

    output: bool


class Output(NamedTuple):
    """The command wrote `data` to the descriptor `fd`, 1 or 2; a terminal's is 1."""

    fd: int
    data: bytes


class Logged(NamedTuple):
    """Lines were added to the log."""


class Input(NamedTuple):
    """Bytes for the command's stdin, or typed at its terminal."""

    data: bytes


class Taken(NamedTuple):
    """The Input was passed on.  The keeper answers once the command runs, and not before."""


class InputEnd(NamedTuple):
    """The viewer's stdin is at its end."""


class OutputClosed(NamedTuple):
    """The viewer's reader of `fd` is gone, so the command should get SIGPIPE."""

    fd: int


class Resize(NamedTuple):
    """The viewer's terminal has that size."""

    rows: int
    columns: int


class Signal(NamedTuple):
    """A signal for the command."""

    number: int


class Ended(NamedTuple):
    """The command ended with that exit status."""

    status: int


Message = (
    Watch | Output | Logged | Input | Taken | InputEnd | OutputClosed | Resize | Signal | Ended
)

_KINDS: tuple[type[Message], ...] = (
    Watch,
    Output,
    Logged,
    Input,
    Taken,
    InputEnd,
    OutputClosed,
    Resize,
    Signal,
    Ended,
)
_HEAD = struct.Struct("=Bii")


class Gone(Exception):
    """The other end of the connection is closed."""


class Connection:
    """One end of a connection; nothing blocks.  The process that has it closes it."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, message: Message) -> bool:
        """Send `message`; False if there is no room for it now.  Raises Gone."""
        first = second = 0
        data = b""
        match message:
            case Watch(output):
                first = int(output)
            case Output(fd, written):
                first, data = fd, written
            case Input(typed):
                data = typed
            case OutputClosed(number) | Signal(number) | Ended(number):
                first = number
            case Resize(rows, columns):
                first, second = rows, columns
        try:
            self._socket.send(_HEAD.pack(_KINDS.index(type(message)), first, second) + data)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            raise Gone from None
        return True

    def unread(self) -> bool:
        """Tell whether the other end has not read yet what was sent."""
        # Linux net/unix/af_unix.c unix_ioctl(): SIOCOUTQ, whose number is this.
        sent = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))
        return bool(int.from_bytes(sent, "little"))

    def receive(self) -> Message | None:
        """Return the next message, None if none is here now.  Raises Gone."""
        try:
            data = self._recv()
        except BlockingIOError:
            return None
        if len(data) < _HEAD.size:
            raise Gone  # the end, or a message of another program
        kind, first, second = _HEAD.unpack_from(data)
        match kind:
            case 0:
                return Watch(bool(first))
            case 1:
                return Output(first, data[_HEAD.size :])
            case 2:
                return Logged()
            case 3:
                return Input(data[_HEAD.size :])
            case 4:
                return Taken()
            case 5:
                return InputEnd()
            case 6:
                return OutputClosed(first)
            case 7:
                return Resize(first, second)
            case 8:
                return Signal(first)
            case 9:
                return Ended(first)
        raise Gone

    def _recv(self) -> bytes:
        try:
            return self._socket.recv(_LONGEST)
        except ConnectionResetError:
            # The other end closed without reading all messages.  What it sent before can
            # still be read after this error: unix(7), Linux net/unix/af_unix.c
            # unix_release_sock().
            return self._socket.recv(_LONGEST)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new connection."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def listen(directory: Path) -> socket.socket:
    """Return the socket on which the keeper of the container in `directory` takes viewers.

    The caller closes it, and holds the container's lock; so a socket that exists already is
    that of a dead keeper.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # sun_path takes 108 bytes; this address is short however long the path is.
            address = f"/proc/self/fd/{parent}/{SOCKET}"
            if os.path.lexists(address):
                os.unlink(address)
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(address)
        finally:
            os.close(parent)
        listener.listen(16)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(directory: Path, watch: Watch) -> Connection | None:
    """Return a connection to the keeper of the container in `directory`, None without one."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            end.connect(f"/proc/self/fd/{parent}/{SOCKET}")
        finally:
            os.close(parent)
        connection = Connection(end)
        connection.send(watch)
    except (FileNotFoundError, ConnectionRefusedError, Gone):
        end.close()
        return None
    except BaseException:
        end.close()
        raise
    return connection
