"""The control socket: the server in the daemon of a live mount.

Decided here and only here: which users may connect (root and the user who mounted), how long
the server waits for a client, and that a bad request ends only its own
connection.  `layerstore.containers.control_protocol` has the messages,
`layerstore.containers.control_client` is the client.

Threading: the server runs on trio beside the transport; requests are carried out in
worker threads, so that the mount never waits for them.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable

import trio

from layerstore.containers.control_protocol import (
    MAX_REQUEST,
    Counters,
    Freeze,
    Frozen,
    GetCounters,
    GetStatus,
    GetWriting,
    Invalidate,
    Invalidated,
    MalformedMessage,
    Refused,
    Reply,
    Restore,
    Restored,
    Status,
    Writing,
    decode_request,
    encode_reply,
)
from unionfs.types import ROOT_NODEID
from unionfs.vfs import Filesystem, Notifier

log = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds for a request to arrive, and for its reply to be taken
_AT_ONCE = 16
_CREDENTIALS = struct.Struct("=iII")


class Control:
    """The commands of one mount."""

    def __init__(self, fs: Filesystem, point: str, notifier: Callable[[], Notifier | None]) -> None:
        self._fs = fs
        self._point = point
        self._notifier = notifier

    def answer(self, line: bytes) -> Reply | Refused:
        """Carry out the request `line`; return its reply, or `Refused` if it fails."""
        try:
            return self._carry_out(line)
        except MalformedMessage as error:
            return Refused(f"the request is not understood: {error}", None)
        except OSError as error:
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            return Refused(f"{where}{error.strerror or error}", error.errno)
        except Exception as error:
            log.exception("a bug in PyUnion; the request was %r", line[:200])
            return Refused(f"a bug in PyUnion: {type(error).__name__}: {error}", None)

    def _carry_out(self, line: bytes) -> Reply:
        match decode_request(line):
            case GetStatus():
                return self._status()
            case GetCounters():
                return Counters(self._fs.counters())
            case GetWriting():
                with self._fs.gate.passing():
                    return Writing(tuple(self._fs.writing()))
            case Invalidate(path):
                return self._invalidate(path)
            case Restore(path, dry_run):
                return self._restore(path, dry_run=dry_run)
            case Freeze(upper_to, ahead):
                return self._freeze(upper_to, ahead=ahead)

    def _status(self) -> Status:
        stack = self._fs.getxattr(ROOT_NODEID, b"user.pyunion.stack").split(b"\n")
        return Status(os.getpid(), self._point, tuple(os.fsdecode(layer) for layer in stack))

    def _invalidate(self, path: bytes | None) -> Invalidated:
        with self._fs.gate.passing():
            forgotten = self._fs.reread(path)
        notifier = self._notifier()
        if notifier is not None:
            for nodeid, parent, name in forgotten:
                notifier.forget_inode(nodeid)
                if name:
                    notifier.forget_name(parent, name)
        return Invalidated(len(forgotten))

    def _restore(self, path: bytes, *, dry_run: bool) -> Restored:
        restored = self._fs.restore(path, dry_run=dry_run)
        notifier = self._notifier()
        if notifier is not None:
            for nodeid in restored.inodes:
                notifier.forget_inode(nodeid)
            for parent, name in restored.names:
                notifier.forget_name(parent, name)
        if restored.changed and not dry_run:
            log.info("restored %r", path)
        return Restored(restored.changed)

    def _freeze(self, upper_to: bytes, *, ahead: bool) -> Frozen:
        frozen = self._fs.freeze(upper_to, ahead=ahead)
        log.info("frozen to %s; requests waited %.1f ms", upper_to, frozen.pause_ns / 1e6)
        return Frozen(frozen.pause_ns, tuple(frozen.copied), frozen.copied_bytes)


async def serve_control(listening: socket.socket, control: Control) -> None:
    """Answer clients until cancelled; while no descriptor is free, they wait."""
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
                    reply: Reply | Refused = Refused("the mount is another user's", None)
                else:
                    line = await _read_line(connection)
                    if line is None:
                        return
                    reply = await trio.to_thread.run_sync(control.answer, line)
                data = encode_reply(reply)
                while data:
                    with trio.fail_after(PATIENCE):
                        data = data[await connection.send(data) :]
        except (OSError, trio.TooSlowError) as error:
            log.debug("the client has gone: %s", error)


def _may_ask(connection: trio.socket.SocketType) -> bool:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    return uid in (0, os.geteuid())


async def _read_line(connection: trio.socket.SocketType) -> bytes | None:
    """Return one request, cut at `MAX_REQUEST` bytes; None from a client that sends nothing."""
    data = b""
    with trio.move_on_after(PATIENCE):
        while len(data) < MAX_REQUEST:
            piece = await connection.recv(MAX_REQUEST)
            if not piece:
                return data or None
            data += piece
            if b"\n" in piece:
                return data.partition(b"\n")[0]
    return None if not data else data[:MAX_REQUEST]
