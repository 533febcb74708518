"""The types of a transport, its time limits, and its cancellation.

This module alone decides when a host is too slow.  A host that sends one byte from time to
time would never exceed a limit on the wait for the next byte, so there is a minimum speed
too.  Only the time that is spent waiting for the host counts.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from layerstore.registry.errors import Cancelled
from layerstore.registry.headers import Headers
from unionfs.light_typing import NamedTuple, Protocol

Body = Sequence[bytes]

_BUFFER = 64 << 10


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a host may take, in seconds; `least` bytes must come in each `window`.

    `answer` limits the wait for the first byte of an answer, and `stored` the same wait
    after a body was sent: a registry may hash a whole upload before it answers.
    """

    connect: float = 30.0
    answer: float = 60.0
    stored: float = 300.0
    idle: float = 60.0
    window: float = 30.0
    least: int = 10 << 10


class HttpRequest(NamedTuple):
    """One request; `body` is pieces that can be sent again.

    `limit` is the number of bytes that the body of the answer may have.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: Body | None = None
    limit: int | None = None


class Answer(Protocol):
    """The answer to a request; the caller closes it."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    @property
    def url(self) -> str: ...

    def readinto(self, buffer: memoryview, /) -> int:
        """Read bytes of the body into `buffer`; return how many, 0 at the end.

        Raises a subclass of Unreachable, or BadAnswer.
        """

    def close(self) -> None:
        """End the exchange; a connection with an unread body is closed too."""


class Transport(Protocol):
    """What carries requests: `HttpTransport`, and in tests a list of answers."""

    def send(self, request: HttpRequest) -> Answer:
        """Return the answer to `request`; nothing is sent twice.

        Raises a subclass of Unreachable, BadAnswer, or Cancelled.
        """

    def close(self) -> None:
        """Close all connections."""


class Stop:
    """Tells each transport that shares it to stop; any thread sets it, and it stays set."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()

    def set(self) -> None:
        """Make each exchange that runs, and each later one, raise Cancelled."""
        with self._lock:
            self._event.set()
            sockets = list(self._sockets)
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def watch(self, sock: socket.socket) -> None:
        """End the waits of `sock` too when this is set."""
        with self._lock:
            self._sockets.add(sock)
        self.check()

    def check(self) -> None:
        """Raise Cancelled if this is set."""
        if self._event.is_set():
            raise Cancelled("the transfer was cancelled")

    def wait(self, seconds: float) -> None:
        """Wait; raises Cancelled at once when this is set."""
        self._event.wait(seconds)
        self.check()


def read_all(answer: Answer, limit: int) -> bytes | None:
    """Return the rest of the body, None if it has more than `limit` bytes."""
    data = bytearray()
    buffer = memoryview(bytearray(min(_BUFFER, limit + 1)))
    while count := answer.readinto(buffer):
        data += buffer[:count]
        if len(data) > limit:
            return None
    return bytes(data)
