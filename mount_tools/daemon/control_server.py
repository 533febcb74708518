"""The control socket: the server in the daemon of a live mount.

Decided here and only here: how long the server waits for a client, and that a client ends only
its own connection.  `control` carries the requests out, and
`layerstore.containers.control_client` is the client.

Threading: one thread accepts clients, and each client has a thread of its own, so that neither
the mount nor another client waits for it.
"""

from __future__ import annotations

import select
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from mount_tools.daemon.peers import is_stranger
from unionfs import light_socket as socket
from unionfs.light_logging import Logger

log = Logger(__name__)

PATIENCE = 5.0  # seconds for a request to arrive, and for its reply to be taken
_AT_ONCE = 16
_LONGEST = 64 << 10  # bytes of a request
UNTIL_IDLE = 1.0  # seconds
_UNTIL_THERE_IS_ROOM = 0.1  # seconds
_CREDENTIALS = struct.Struct("=iII")

Say = Callable[[bytes], None]
Answer = Callable[[int, bytes, Say], bytes]
"""Carries out the request of a line for the user of that id; returns the line of the reply.

Lines that come before the reply are given to the last argument, from any thread, one at a time.
It raises OSError if the client has gone, or does not take the line.
"""


class ControlServer:
    """Serves a control socket until `close`."""

    def __init__(self, listener: socket.socket, prepare: Callable[[], Answer]) -> None:
        """`prepare` is called in another thread: after a second, or for the first client.

        So the commands are imported neither while somebody waits for the mount, nor by a mount
        that ends at once.  `close` closes `listener`.  Raises RuntimeError if no thread can be
        started.
        """
        self._listener = listener
        self._prepare = prepare
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._state = threading.Condition()
        self._closed = False
        self._at_work = 0
        threading.Thread(target=self._serve, name="control", daemon=True).start()

    def close(self) -> None:
        """Carry out no more requests, and wait for those that are being carried out."""
        with self._state:
            self._closed = True
            self._state.notify_all()
        with suppress(OSError):  # that thread may have closed it
            self._listener.shutdown(socket.SHUT_RDWR)  # accept(2) in the other thread returns
        with self._state:
            self._state.wait_for(lambda: self._at_work == 0)

    def _serve(self) -> None:
        try:
            with self._listener:
                # A socket that is shut down wakes poll(2); with a timeout, accept would go on
                # trying to the end of it.
                poll = select.poll()
                poll.register(self._listener, select.POLLIN)
                poll.poll(UNTIL_IDLE * 1000)
                if self._closed:
                    return
                answer = self._prepare()
                while not self._closed:
                    self._slots.acquire()
                    connection = self._accept()
                    if connection is None:
                        self._slots.release()
                    elif is_stranger(connection):
                        connection.close()
                        self._slots.release()
                    else:
                        self._start(connection, answer)
        except Exception:
            log.exception("the control socket failed; the mount goes on without it")

    def _accept(self) -> socket.socket | None:
        """Return the next client; None if none can be accepted now."""
        try:
            return self._listener.accept()[0]
        except ConnectionAbortedError:
            return None
        except OSError as error:
            with self._state:
                if not self._closed:
                    # No descriptor is free, for example.  The clients wait.
                    log.debug("no client can be accepted: %s", error)
                    self._state.wait(_UNTIL_THERE_IS_ROOM)
            return None

    def _start(self, connection: socket.socket, answer: Answer) -> None:
        try:
            threading.Thread(
                target=self._converse, args=(connection, answer), name="client", daemon=True
            ).start()
        except RuntimeError as error:
            log.warning("no thread can be started for a client: %s", error)
            connection.close()
            self._slots.release()

    def _converse(self, connection: socket.socket, answer: Answer) -> None:
        try:
            with connection:
                line = _read_line(connection)
                if line is None:
                    return
                with self._state:
                    if self._closed:
                        return
                    self._at_work += 1
                connection.settimeout(PATIENCE)
                try:
                    reply = answer(_user_of(connection), line, connection.sendall)
                finally:
                    with self._state:
                        self._at_work -= 1
                        self._state.notify_all()
                connection.sendall(reply)
        except OSError as error:
            log.debug("the client has gone: %s", error)
        finally:
            self._slots.release()


def _user_of(connection: socket.socket) -> int:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(data)[1]
    return uid


def _read_line(connection: socket.socket) -> bytes | None:
    """Return one request, cut at `_LONGEST` bytes; None from a client that sends nothing."""
    end = time.monotonic() + PATIENCE
    data = b""
    with suppress(TimeoutError):
        while b"\n" not in data and len(data) < _LONGEST:
            connection.settimeout(max(0.001, end - time.monotonic()))
            piece = connection.recv(_LONGEST)
            if not piece:
                break
            data += piece
    return data.partition(b"\n")[0][:_LONGEST] if data else None
