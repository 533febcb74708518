"""The control socket: what a live mount answers to those who may ask it.

Decided here and only here: the commands and what they return, who may ask (root
and the user who mounted), and what a bad request costs: itself.  One request and
one answer, each a line of JSON; the client is `layerstore.containers.control_client`.

    status                  what is mounted, of which layers
    counters                what the union has in memory and has done
    writing                 which files are open for writing
    invalidate [path]       the layers were changed from outside: forget what is known
    freeze upper_to [ahead] the upper becomes the topmost lower, moved to `upper_to`

Threading: the server runs on trio beside the transport; what may wait runs in a
worker thread, so the mount never waits for who asks.
"""

from __future__ import annotations

import base64
import errno
import json
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import trio

from unionfs.types import ROOT_NODEID
from unionfs.vfs import Filesystem, Notifier

log = logging.getLogger(__name__)

LONGEST = 64 << 10  # bytes of a request
PATIENCE = 5.0  # seconds for a request to arrive, and for its answer to be taken
_AT_ONCE = 16
_CREDENTIALS = struct.Struct("=iII")

Answer = dict[str, object]


class BadRequest(Exception):
    """The request cannot be understood; the text says what of it."""


class Control:
    """The commands of one mount."""

    def __init__(self, fs: Filesystem, point: str, notifier: Callable[[], Notifier | None]) -> None:
        self._fs = fs
        self._point = point
        self._notifier = notifier
        self._commands: dict[str, Callable[[Answer], Answer]] = {
            "status": self._status,
            "counters": self._counters,
            "writing": self._writing,
            "invalidate": self._invalidate,
            "freeze": self._freeze,
        }

    def answer(self, line: bytes) -> Answer:
        """Do what `line` asks; return the answer, an error being one too."""
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise BadRequest("a request is a JSON object")
            command = self._commands.get(str(request.get("command")))
            if command is None:
                known = ", ".join(self._commands)
                raise BadRequest(f"{request.get('command')!r} is no command; there are {known}")
            return {"ok": True, **command(request)}
        except (BadRequest, ValueError, RecursionError) as error:
            return {"ok": False, "error": f"the request is not understood: {error}"}
        except OSError as error:
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            said = f"{where}{error.strerror or error}"
            return {"ok": False, "error": said, "errno": error.errno}
        except Exception as error:
            log.exception("a bug in PyUnion; the request was %r", line[:200])
            return {"ok": False, "error": f"a bug in PyUnion: {type(error).__name__}: {error}"}

    def _status(self, request: Answer) -> Answer:
        stack = self._fs.getxattr(ROOT_NODEID, b"user.pyunion.stack").split(b"\n")
        layers = [layer.decode(errors="surrogateescape") for layer in stack]
        return {"pid": os.getpid(), "mount_point": self._point, "stack": layers}

    def _counters(self, request: Answer) -> Answer:
        return {"counters": self._fs.counters()}

    def _writing(self, request: Answer) -> Answer:
        with self._fs.gate.passing():
            paths = self._fs.writing()
        return {"paths": [base64.b64encode(path).decode() for path in paths]}

    def _invalidate(self, request: Answer) -> Answer:
        path = request.get("path")
        if path is not None and not isinstance(path, str):
            raise BadRequest("path is text")
        wanted = None if path is None else os.fsencode(path)
        with self._fs.gate.passing():
            forgotten = self._fs.reread(wanted)
        notifier = self._notifier()
        if notifier is not None:
            for nodeid, parent, name in forgotten:
                notifier.forget_inode(nodeid)
                if name:
                    notifier.forget_name(parent, name)
        return {"forgotten": len(forgotten)}

    def _freeze(self, request: Answer) -> Answer:
        upper_to, ahead = request.get("upper_to"), request.get("ahead", False)
        if not isinstance(upper_to, str) or not upper_to.startswith("/"):
            raise BadRequest("upper_to is an absolute path")
        frozen = self._fs.freeze(os.fsencode(upper_to), ahead=ahead is True)
        log.info("frozen to %s; requests waited %.1f ms", upper_to, frozen.pause_ns / 1e6)
        return {
            "pause_ns": frozen.pause_ns,
            "copied": [base64.b64encode(name).decode() for name in frozen.copied],
            "copied_bytes": frozen.copied_bytes,
        }


def listen(path: str) -> socket.socket:
    """Return a socket listening at `path`, for its owner only; a dead one there is replaced.

    Raises `OSError`: EADDRINUSE where another mount answers at it.
    """
    place = Path(path)
    parent = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # By this way the address is short however long the path is.
        address = f"/proc/self/fd/{parent}/{place.name}"
        _clear(address)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(address)
            os.chmod(address, 0o600)
            listener.listen(_AT_ONCE)
            return listener
        except BaseException:
            listener.close()
            raise
    finally:
        os.close(parent)


def _clear(address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(address)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), address)


async def serve_control(listening: socket.socket, control: Control) -> None:
    """Answer whoever connects, until cancelled; where descriptors run out, they wait."""
    limit = trio.CapacityLimiter(_AT_ONCE)

    async def answer(stream: trio.SocketStream) -> None:
        await _converse(stream.socket, control, limit)

    with trio.socket.from_stdlib_socket(listening) as listener:
        await trio.serve_listeners(answer, [trio.SocketListener(listener)])


async def _converse(
    connection: trio.socket.SocketType, control: Control, limit: trio.CapacityLimiter
) -> None:
    with connection:
        try:
            async with limit:
                if not _may_ask(connection):
                    answer: Answer = {"ok": False, "error": "the mount is another user's"}
                else:
                    line = await _read_line(connection)
                    if line is None:
                        return
                    answer = await trio.to_thread.run_sync(control.answer, line)
                data = json.dumps(answer).encode() + b"\n"
                while data:
                    with trio.fail_after(PATIENCE):
                        data = data[await connection.send(data) :]
        except (OSError, trio.TooSlowError) as error:
            log.debug("who asked has gone: %s", error)


def _may_ask(connection: trio.socket.SocketType) -> bool:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    return uid in (0, os.geteuid())


async def _read_line(connection: trio.socket.SocketType) -> bytes | None:
    """Return one request; None from someone who says nothing, or too much."""
    data = b""
    with trio.move_on_after(PATIENCE):
        while len(data) < LONGEST:
            piece = await connection.recv(LONGEST)
            if not piece:
                return data or None
            data += piece
            if b"\n" in piece:
                return data.partition(b"\n")[0]
    return None if not data else data[:LONGEST]
