"""The client of a live mount's control socket.

Decided here and only here: how long a client waits, and which failures mean that
nothing is mounted: if no process serves the socket, it is left over.
`layerstore.containers.control_protocol` has the messages.

Threading: any thread; each request has its own connection.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

from layerstore.containers.control_protocol import (
    ControlRequest,
    Freeze,
    Frozen,
    GetWriting,
    MalformedMessage,
    R,
    Refused,
    Restore,
    decode_reply,
    encode_request,
)
from layerstore.db.processes import is_stopped
from layerstore.db.reserve import FULL
from layerstore.errors import Busy, StoreError
from unionfs import light_socket as socket

SECONDS = 10.0
FREEZE_SECONDS = 3600.0  # files in use are copied, whatever their size
STOPPED_SECONDS = 3.0  # then a process that was stopped is not waited for
_CREDENTIALS = struct.Struct("=iII")


class NoMount(StoreError):
    """Nothing serves that control socket."""


def ask(path: Path, request: ControlRequest[R], *, seconds: float = SECONDS) -> R:
    """Send `request` to the mount behind the socket `path`; return its reply.

    Raises NoMount if nothing serves the socket, Busy if no reply comes within
    `seconds` or the process that serves it was stopped, OSError (ENOSPC, EDQUOT) if the
    mount's disk is full, Refused with the mount's own sentence if it fails for another
    reason, and StoreError for a reply that does not follow the protocol.
    """
    try:
        with _connect(path) as connection:
            connection.sendall(encode_request(request))
            line = _read_line(connection, path, seconds)
    except (TimeoutError, BlockingIOError):  # the latter if too many clients wait
        raise Busy(f"the mount behind {path} has not answered for {seconds:.0f} s") from None
    except (FileNotFoundError, NotADirectoryError, ConnectionError):
        raise NoMount(f"no mount is served behind {path}") from None
    if not line:
        raise NoMount(f"the mount behind {path} ended before it answered")
    try:
        return decode_reply(request, line)
    except MalformedMessage as error:
        raise StoreError(
            f"the answer of the mount behind {path} is not understood: {error}"
        ) from None
    except Refused as error:
        if error.errno in FULL:
            raise OSError(error.errno, str(error)) from None
        raise


def freeze(path: Path, upper_to: Path, *, ahead: bool = False) -> Frozen:
    """Freeze the upper of the mount behind the socket `path` to `upper_to`; see `Freeze`."""
    return ask(path, Freeze(os.fsencode(upper_to), ahead), seconds=FREEZE_SECONDS)


def restore(path: Path, restored: bytes, *, dry_run: bool = False) -> bool:
    """Make the path `restored` in the mount behind the socket `path` what its lowers have.

    Tells whether that changes it; with `dry_run` nothing is changed.  See `Restore`.
    """
    return ask(path, Restore(restored, dry_run), seconds=FREEZE_SECONDS).changed


def writing(path: Path) -> tuple[bytes, ...]:
    """Return the paths, in the union behind the socket `path`, of the files open for writing."""
    return ask(path, GetWriting()).paths


def _connect(path: Path) -> socket.socket:
    """Connect to `path`, which may be longer than a socket's address allows."""
    parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(SECONDS)
            connection.connect(f"/proc/self/fd/{parent}/{path.name}")
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(parent)


def _read_line(connection: socket.socket, path: Path, seconds: float) -> bytes:
    """Return the line that comes within `seconds`.  Raises TimeoutError, and Busy."""
    pieces: list[bytes] = []
    end = time.monotonic() + seconds
    while not pieces or not pieces[-1].endswith(b"\n"):
        left = end - time.monotonic()
        connection.settimeout(max(0.001, min(left, STOPPED_SECONDS)))
        try:
            piece = connection.recv(1 << 16)
        except TimeoutError:
            _refuse_stopped(connection, path)
            if left <= STOPPED_SECONDS:
                raise
            continue
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces)


def _refuse_stopped(connection: socket.socket, path: Path) -> None:
    """Raise Busy if the process that serves the socket was stopped."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(data)[0]
    if pid > 0 and is_stopped(pid):  # 0: it is not shown to us
        raise Busy(
            f"the mount behind {path} does not answer: the process that serves it, {pid}, was "
            f"stopped; `kill -CONT {pid}` lets it go on"
        )
