"""Asking a live mount: the client of its control socket.

One request and one answer, each a line of JSON, over a Unix socket that belongs
to the mount; the server is `mount_tools.daemon.control_server`.  A mount that does not
answer is no mount: its daemon is gone, and the socket a leftover.

Threading: any thread; each question has a connection of its own.
"""

from __future__ import annotations

import base64
import json
import os
import socket
from pathlib import Path

from layerstore.db.reserve import FULL
from layerstore.errors import Busy, StoreError
from layerstore.oci.documents import Object

SECONDS = 10.0
FREEZE_SECONDS = 3600.0  # files open for writing are copied, whatever their size


class NoMount(StoreError):
    """Nothing serves that control socket."""


def ask(socket_path: Path, command: str, *, seconds: float = SECONDS, **fields: object) -> Object:
    """Ask the mount behind the socket `socket_path`; return what it answers.

    Raises NoMount where nobody serves it, Busy where no answer comes in time,
    OSError where the mount's disk is full, and else StoreError with the mount's
    own sentence.
    """
    request = json.dumps({"command": command, **fields}).encode() + b"\n"
    try:
        with _connect(socket_path) as connection:
            connection.settimeout(seconds)
            connection.sendall(request)
            line = _read_line(connection)
    except (TimeoutError, BlockingIOError):  # the latter where too many wait in line
        raise Busy(f"the mount behind {socket_path} has not answered for {seconds:.0f} s") from None
    except (FileNotFoundError, ConnectionError):
        raise NoMount(f"no mount is served behind {socket_path}") from None
    if not line:
        raise NoMount(f"the mount behind {socket_path} ended before it answered")
    answer: Object = json.loads(line)
    if answer.get("ok") is not True:
        said = str(answer.get("error", "the mount gave no reason"))
        code = answer.get("errno")
        if isinstance(code, int) and code in FULL:
            raise OSError(code, said)
        raise StoreError(said)
    return answer


def freeze(path: Path, upper_to: Path, *, ahead: bool = False) -> tuple[int, list[bytes], int]:
    """Freeze the upper of the mount behind `path` to `upper_to`.

    Returns how long requests waited in ns, the files that were copied, and
    their bytes.  With `ahead` they are copied before the pause, as they are then.
    """
    answer = ask(path, "freeze", seconds=FREEZE_SECONDS, upper_to=os.fspath(upper_to), ahead=ahead)
    return (
        int(str(answer["pause_ns"])),
        _paths(answer.get("copied")),
        int(str(answer["copied_bytes"])),
    )


def writing(path: Path) -> list[bytes]:
    """Return the paths, in the union behind `path`, of the files open for writing."""
    return _paths(ask(path, "writing").get("paths"))


def _paths(found: object) -> list[bytes]:
    return [base64.b64decode(str(name)) for name in found] if isinstance(found, list) else []


def _connect(path: Path) -> socket.socket:
    """Connect to `path`, which may be longer than a socket's address can be."""
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


def _read_line(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(1 << 16):
        pieces.append(piece)
        if piece.endswith(b"\n"):
            break
    return b"".join(pieces)
