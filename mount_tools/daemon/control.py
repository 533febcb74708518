"""The commands of a live mount, which its control socket carries.

Decided here and only here: which users may give them (root and the user who mounted), and
that a request that fails, whatever it is, gets an answer.
`layerstore.containers.control_protocol` has the messages.

Threading: any thread that serves no requests of the mount, several at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from layerstore.containers.control_protocol import (
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
from mount_tools.daemon.signs_of_life import Say, SignsOfLife
from unionfs.errors import error_text
from unionfs.light_logging import Logger
from unionfs.types import ROOT_NODEID
from unionfs.vfs import Filesystem, Notifier

log = Logger(__name__)


class Control:
    """The commands of one mount."""

    def __init__(self, fs: Filesystem, point: str, notifier: Notifier) -> None:
        self._fs = fs
        self._point = point
        self._notifier = notifier
        self._signs = SignsOfLife(self._upper)

    def answer(self, uid: int, line: bytes, say: Say) -> bytes:
        """Carry out the request `line` of the user `uid`; return the line of the reply.

        Signs of life are given to `say`, from another thread, if the request asks for them.
        """
        return encode_reply(self._reply(uid, line, say))

    def _reply(self, uid: int, line: bytes, say: Say) -> Reply | Refused:
        if uid not in (0, os.geteuid()):
            return Refused("the mount is another user's", None)
        try:
            return self._carry_out(line, say)
        except MalformedMessage as error:
            return Refused(f"the request is not understood: {error}", None)
        except OSError as error:
            return Refused(error_text(error), error.errno)
        except Exception as error:
            log.exception("a bug in PyUnion; the request was %r", line[:200])
            return Refused(f"a bug in PyUnion: {type(error).__name__}: {error}", None)

    def _carry_out(self, line: bytes, say: Say) -> Reply:
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
            case Restore(path, dry_run, signs, along):
                with self._signs.given(say if signs else None):
                    return self._restore(path, dry_run=dry_run, along=along)
            case Freeze(upper_to, ahead, signs):
                with self._signs.given(say if signs else None):
                    return self._freeze(upper_to, ahead=ahead)

    def _status(self) -> Status:
        return Status(os.getpid(), self._point, tuple(map(os.fsdecode, self._stack())))

    def _stack(self) -> list[bytes]:
        """Return the directories of the layers, the upper first."""
        return self._fs.getxattr(ROOT_NODEID, b"user.pyunion.stack").split(b"\n")

    def _upper(self) -> bytes:
        return self._stack()[0]

    def _invalidate(self, path: bytes | None) -> Invalidated:
        with self._fs.gate.passing():
            forgotten = self._fs.reread(path)
        for nodeid, parent, name in forgotten:
            self._notifier.forget_inode(nodeid)
            if name:
                self._notifier.forget_name(parent, name)
        return Invalidated(len(forgotten))

    def _restore(self, path: bytes, *, dry_run: bool, along: Sequence[bytes]) -> Restored:
        restored = self._fs.restore(path, dry_run=dry_run, along=along)
        for nodeid in restored.inodes:
            self._notifier.forget_inode(nodeid)
        for parent, name in restored.names:
            self._notifier.forget_name(parent, name)
        if restored.changed and not dry_run:
            log.info("restored %r", path)
        return Restored(restored.changed)

    def _freeze(self, upper_to: bytes, *, ahead: bool) -> Frozen:
        frozen = self._fs.freeze(upper_to, ahead=ahead)
        log.info("frozen to %s; requests waited %.1f ms", upper_to, frozen.pause_ns / 1e6)
        return Frozen(frozen.pause_ns, tuple(frozen.copied), frozen.copied_bytes)
