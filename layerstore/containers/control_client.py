"""The client of a live mount's control socket.

Decided here and only here: how long a client waits, and which failures mean that
nothing is mounted: if no process serves the socket, it is left over.  A freeze or a restore
takes as long as it takes while the daemon's signs of life say that it goes on.
`layerstore.containers.control_protocol` has the messages.

Threading: any thread; each request has its own connection.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Sequence
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
    Sign,
    decode_reply,
    decode_sign,
    encode_request,
)
from layerstore.db.processes import is_stopped
from layerstore.db.reserve import FULL
from layerstore.errors import Busy, StoreError
from unionfs import light_socket as socket

SECONDS = 10.0
FREEZE_SECONDS = 3600.0  # files in use are copied, by a daemon that gives no signs of life
# A disk that has lost its connection is tried again for as long, and a large one that slept
# takes a third of that.
QUIET_SECONDS = 30.0
STOPPED_SECONDS = 3.0  # then a process that was stopped is not waited for
_CREDENTIALS = struct.Struct("=iII")


class NoMount(StoreError):
    """Nothing serves that control socket."""


def ask(path: Path, request: ControlRequest[R], *, seconds: float = SECONDS) -> R:
    """Send `request` to the mount behind the socket `path`; return its reply.

    Raises NoMount if nothing serves the socket, Busy if no reply comes within
    `seconds`, the work has not gone on for `QUIET_SECONDS` if there are signs of life, or
    the process that serves the socket was stopped, OSError (ENOSPC, EDQUOT) if the
    mount's disk is full, Refused with the mount's own sentence if it fails for another
    reason, and StoreError for a reply that does not follow the protocol.
    """
    try:
        with _connect(path) as connection:
            connection.sendall(encode_request(request))
            line = _read_reply(connection, path, seconds)
    except (TimeoutError, BlockingIOError):  # the latter if too many clients wait
        raise _silent(path, SECONDS) from None
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
    request = Freeze(os.fsencode(upper_to), ahead, signs=True)
    return ask(path, request, seconds=FREEZE_SECONDS)


def restore(
    path: Path, restored: bytes, *, dry_run: bool = False, along: Sequence[bytes] = ()
) -> bool:
    """Make the path `restored` in the mount behind the socket `path` what its lowers have.

    Tells whether that changes it; with `dry_run` nothing is changed.  See `Restore`.  Raises
    Refused with EBUSY if that would show something at two paths, of which none is in `along`.
    """
    request = Restore(restored, dry_run, signs=True, along=tuple(along))
    return ask(path, request, seconds=FREEZE_SECONDS).changed


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


def _read_reply(connection: socket.socket, path: Path, seconds: float) -> bytes:
    """Return the line of the reply, which comes within `seconds` or after signs of life.

    Raises Busy.
    """
    rest = b""
    while True:
        line, rest = _read_line(connection, path, seconds, rest)
        sign = decode_sign(line)
        if sign is None:
            return line
        _refuse_hung(connection, path, sign)
        seconds = QUIET_SECONDS


def _read_line(
    connection: socket.socket, path: Path, seconds: float, begun: bytes
) -> tuple[bytes, bytes]:
    """Return the line that begins with `begun`, and what follows it.

    Raises Busy if it does not come within `seconds`.
    """
    end = time.monotonic() + seconds
    pieces = [begun]
    while b"\n" not in pieces[-1]:
        left = end - time.monotonic()
        connection.settimeout(max(0.001, min(left, STOPPED_SECONDS)))
        try:
            piece = connection.recv(1 << 16)
        except TimeoutError:
            _refuse_stopped(connection, path)
            if left <= STOPPED_SECONDS:
                raise _silent(path, seconds) from None
            continue
        if not piece:
            break
        pieces.append(piece)
    line, newline, rest = b"".join(pieces).partition(b"\n")
    return line + newline, rest


def _refuse_hung(connection: socket.socket, path: Path, sign: Sign) -> None:
    """Raise Busy if the work has not gone on for long."""
    seconds = sign.idle_ms / 1000
    if seconds < QUIET_SECONDS:
        return
    raise Busy(
        f"the mount behind {path} does not go on: for {seconds:.0f} s the process that serves it, "
        f"{_pid_of(connection) or 'another'}, has waited for {sign.waits_for}; what was asked of "
        "it may still be done, if that wait ends"
    )


def _silent(path: Path, seconds: float) -> Busy:
    return Busy(f"the mount behind {path} has not answered for {seconds:.0f} s")


def _refuse_stopped(connection: socket.socket, path: Path) -> None:
    """Raise Busy if the process that serves the socket was stopped."""
    pid = _pid_of(connection)
    if pid > 0 and is_stopped(pid):  # 0: it is not shown to us
        raise Busy(
            f"the mount behind {path} does not answer: the process that serves it, {pid}, was "
            f"stopped; `kill -CONT {pid}` lets it go on"
        )


def _pid_of(connection: socket.socket) -> int:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(data)[0]
    return pid
