"""The control protocol between the store and the daemon of a live mount.

Decided here and only here: the messages, and their format.  A connection carries one request
and one reply, each one line: a JSON object in ASCII.  A request has its `command`; a reply
has `"ok": true` and the fields of its type, or `"ok": false` with an `error` for people and,
if the union failed with an errno, that `errno`.

    status                  return what is mounted, of which layers
    counters                return the union's counters
    writing                 return the files that are open for writing
    invalidate [path]       forget what is cached, since layers were changed from outside
    restore path [dry_run] [along]  make a path again what the lowers have, with those `along`
    freeze upper_to [ahead] make the upper the topmost lower, and move it to `upper_to`

The last two may take long.  With `signs` signs of life come before the reply: lines with `idle`,
the ms in which the work has not gone on, and `waits_for`.  The first comes at once, so a client
that hears none talks to a daemon that knows no signs, as do clients that do not ask for them.

Paths in the union are base64 of their bytes; paths given in a request are text,
whose bytes that are not UTF-8 are surrogate escapes (PEP 383).

The client is `layerstore.containers.control_client`, the server
`mount_tools.daemon.control_server`.  Neither trusts the other: a message that cannot be
decoded raises `MalformedMessage`.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping

from layerstore.errors import StoreError
from unionfs.light_typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from typing import NoReturn

Fields = Mapping[str, object]
R = TypeVar("R", bound="Reply")
R_co = TypeVar("R_co", bound="Reply", covariant=True)


class MalformedMessage(StoreError):
    """A request or a reply does not follow the protocol; the text says in which part."""


class Refused(StoreError):
    """The mount could not do what was requested; the text is the mount's own.

    `errno` is None if the failure has none.
    """

    def __init__(self, text: str, errno: int | None) -> None:
        super().__init__(text)
        self.errno = errno


# -- replies --


class Reply(Protocol):
    """The reply to a request that succeeded; its class has `parse`, the reverse of `fields`."""

    def fields(self) -> dict[str, object]:
        """Return the reply's fields as JSON values."""


class Status(NamedTuple):
    """What is mounted: the daemon's pid, the mount point, the layers with the upper first."""

    pid: int
    mount_point: str
    stack: tuple[str, ...]

    def fields(self) -> dict[str, object]:
        return {"pid": self.pid, "mount_point": self.mount_point, "stack": list(self.stack)}

    @classmethod
    def parse(cls, fields: Fields) -> Status:
        return cls(
            _count(fields, "pid"),
            _text(fields, "mount_point"),
            tuple(_words(fields, "stack")),
        )


class Counters(NamedTuple):
    """What the union has in memory and has done, as `Filesystem.counters` names it."""

    counters: Mapping[str, int]

    def fields(self) -> dict[str, object]:
        return {"counters": dict(self.counters)}

    @classmethod
    def parse(cls, fields: Fields) -> Counters:
        found = fields.get("counters")
        if not isinstance(found, dict):
            raise MalformedMessage("counters is not an object")
        return cls({name: _count(found, name) for name in found})


class Writing(NamedTuple):
    """The paths in the union, from its root, of the files that are open for writing."""

    paths: tuple[bytes, ...]

    def fields(self) -> dict[str, object]:
        return {"paths": _base64(self.paths)}

    @classmethod
    def parse(cls, fields: Fields) -> Writing:
        return cls(_paths(fields, "paths"))


class Invalidated(NamedTuple):
    """How many cached inodes and names were forgotten."""

    forgotten: int

    def fields(self) -> dict[str, object]:
        return {"forgotten": self.forgotten}

    @classmethod
    def parse(cls, fields: Fields) -> Invalidated:
        return cls(_count(fields, "forgotten"))


class Restored(NamedTuple):
    """Whether the path was changed by that, or would be."""

    changed: bool

    def fields(self) -> dict[str, object]:
        return {"changed": self.changed}

    @classmethod
    def parse(cls, fields: Fields) -> Restored:
        return cls(_flag(fields, "changed"))


class Frozen(NamedTuple):
    """How long requests waited, in ns; the files that were copied, and their bytes."""

    pause_ns: int
    copied: tuple[bytes, ...]
    copied_bytes: int

    def fields(self) -> dict[str, object]:
        return {
            "pause_ns": self.pause_ns,
            "copied": _base64(self.copied),
            "copied_bytes": self.copied_bytes,
        }

    @classmethod
    def parse(cls, fields: Fields) -> Frozen:
        return cls(
            _count(fields, "pause_ns"), _paths(fields, "copied"), _count(fields, "copied_bytes")
        )


class Sign(NamedTuple):
    """A sign of life, which comes before a reply: how long the work has not gone on, in ms.

    `waits_for` is for people: what the work has waited for meanwhile.
    """

    idle_ms: int
    waits_for: str


# -- requests --


class ControlRequest(Protocol[R_co]):
    """A request to a mount; `R_co` is the type of the reply.  Its class has `parse` too."""

    def fields(self) -> dict[str, object]:
        """Return the request's fields as JSON values, without the command."""

    def reply(self, fields: Fields) -> R_co:
        """Return the reply of these fields; raises MalformedMessage."""


class GetStatus(NamedTuple):
    """Asks for the status of the mount."""

    def fields(self) -> dict[str, object]:
        return {}

    @classmethod
    def parse(cls, fields: Fields) -> GetStatus:
        return cls()

    def reply(self, fields: Fields) -> Status:
        return Status.parse(fields)


class GetCounters(NamedTuple):
    """Asks for the union's counters."""

    def fields(self) -> dict[str, object]:
        return {}

    @classmethod
    def parse(cls, fields: Fields) -> GetCounters:
        return cls()

    def reply(self, fields: Fields) -> Counters:
        return Counters.parse(fields)


class GetWriting(NamedTuple):
    """Asks which files are open for writing."""

    def fields(self) -> dict[str, object]:
        return {}

    @classmethod
    def parse(cls, fields: Fields) -> GetWriting:
        return cls()

    def reply(self, fields: Fields) -> Writing:
        return Writing.parse(fields)


class Invalidate(NamedTuple):
    """Asks to drop the cached names along `path`, or those of the whole union."""

    path: bytes | None = None

    def fields(self) -> dict[str, object]:
        return {} if self.path is None else {"path": os.fsdecode(self.path)}

    @classmethod
    def parse(cls, fields: Fields) -> Invalidate:
        return cls(None if fields.get("path") is None else _path(fields, "path"))

    def reply(self, fields: Fields) -> Invalidated:
        return Invalidated.parse(fields)


class Restore(NamedTuple):
    """Asks to make `path` again what the lowers have, or with `dry_run` whether it differs.

    With `signs` it asks for signs of life too.  The client asks for each of the paths `along`
    too; a mount that is older does not know them.
    """

    path: bytes
    dry_run: bool = False
    signs: bool = False
    along: tuple[bytes, ...] = ()

    def fields(self) -> dict[str, object]:
        fields: dict[str, object] = {
            "path": os.fsdecode(self.path),
            "dry_run": self.dry_run,
            "signs": self.signs,
        }
        if self.along:
            fields["along"] = _base64(self.along)
        return fields

    @classmethod
    def parse(cls, fields: Fields) -> Restore:
        along = _paths(fields, "along") if "along" in fields else ()
        return cls(_path(fields, "path"), _flag(fields, "dry_run"), _flag(fields, "signs"), along)

    def reply(self, fields: Fields) -> Restored:
        return Restored.parse(fields)


class Freeze(NamedTuple):
    """Asks to make the upper the topmost lower, moved to the absolute path `upper_to`.

    Files in use are copied while requests wait, or before that with `ahead`.  With `signs` it
    asks for signs of life too.
    """

    upper_to: bytes
    ahead: bool = False
    signs: bool = False

    def fields(self) -> dict[str, object]:
        upper_to = os.fsdecode(self.upper_to)
        return {"upper_to": upper_to, "ahead": self.ahead, "signs": self.signs}

    @classmethod
    def parse(cls, fields: Fields) -> Freeze:
        upper_to = _path(fields, "upper_to")
        if not upper_to.startswith(b"/"):
            raise MalformedMessage("upper_to is not an absolute path")
        return cls(upper_to, _flag(fields, "ahead"), _flag(fields, "signs"))

    def reply(self, fields: Fields) -> Frozen:
        return Frozen.parse(fields)


AnyRequest = GetStatus | GetCounters | GetWriting | Invalidate | Restore | Freeze
REQUESTS: dict[str, type[AnyRequest]] = {
    "status": GetStatus,
    "counters": GetCounters,
    "writing": GetWriting,
    "invalidate": Invalidate,
    "restore": Restore,
    "freeze": Freeze,
}
_COMMANDS: dict[type, str] = {kind: command for command, kind in REQUESTS.items()}


# -- lines --


def encode_request(request: ControlRequest[R]) -> bytes:
    """Return the line that asks for `request`."""
    return _line({"command": _COMMANDS[type(request)], **request.fields()})


def decode_request(line: bytes) -> AnyRequest:
    """Return the request of a line; raises MalformedMessage."""
    fields = _object(line)
    command = fields.get("command")
    kind = REQUESTS.get(command) if isinstance(command, str) else None
    if kind is None:
        raise MalformedMessage(f"{command!r} is no command; there are {', '.join(REQUESTS)}")
    return kind.parse(fields)


def encode_reply(reply: Reply | Refused) -> bytes:
    """Return the line that answers with `reply`, or that refuses."""
    if isinstance(reply, Refused):
        errno = {} if reply.errno is None else {"errno": reply.errno}
        return _line({"ok": False, "error": str(reply), **errno})
    return _line({"ok": True, **reply.fields()})


def decode_reply(request: ControlRequest[R], line: bytes) -> R:
    """Return the reply to `request`; raises Refused, and MalformedMessage for another line."""
    fields = _object(line)
    if fields.get("ok") is True:
        return request.reply(fields)
    code = fields.get("errno")
    text = _text(fields, "error") or "the mount gave no reason"
    raise Refused(text, code if isinstance(code, int) and not isinstance(code, bool) else None)


def encode_sign(sign: Sign) -> bytes:
    """Return the line that is the sign of life `sign`."""
    return _line({"idle": sign.idle_ms, "waits_for": sign.waits_for})


def decode_sign(line: bytes) -> Sign | None:
    """Return the sign of life that a line is; None if it is no such line, but may be a reply."""
    try:
        fields = _object(line)
        return None if "ok" in fields else Sign(_count(fields, "idle"), _text(fields, "waits_for"))
    except MalformedMessage:
        return None


def _line(fields: Fields) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _object(line: bytes) -> dict[str, object]:
    try:
        found = json.loads(line, parse_constant=_no_number)
    except RecursionError:
        raise MalformedMessage("a message is nested too deeply") from None
    except ValueError as error:  # of which UnicodeDecodeError is one
        raise MalformedMessage(f"a message is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise MalformedMessage("a message is not a JSON object")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _text(fields: Fields, name: str) -> str:
    found = fields.get(name)
    if not isinstance(found, str):
        raise MalformedMessage(f"{name} is not text")
    return found


def _path(fields: Fields, name: str) -> bytes:
    try:
        found = os.fsencode(_text(fields, name))
    except UnicodeEncodeError:
        raise MalformedMessage(f"{name} is not a path") from None
    if b"\0" in found:
        raise MalformedMessage(f"{name} has a NUL byte, which no path has")
    return found


def _flag(fields: Fields, name: str) -> bool:
    found = fields.get(name, False)
    if not isinstance(found, bool):
        raise MalformedMessage(f"{name} is neither true nor false")
    return found


def _count(fields: Fields, name: str) -> int:
    found = fields.get(name)
    if not isinstance(found, int) or isinstance(found, bool):
        raise MalformedMessage(f"{name} is not an integer")
    return found


def _words(fields: Fields, name: str) -> list[str]:
    found = fields.get(name)
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise MalformedMessage(f"{name} is not a list of text")
    return found


def _base64(paths: Iterable[bytes]) -> list[str]:
    return [base64.b64encode(path).decode() for path in paths]


def _paths(fields: Fields, name: str) -> tuple[bytes, ...]:
    try:
        return tuple(base64.b64decode(word, validate=True) for word in _words(fields, name))
    except ValueError:
        raise MalformedMessage(f"{name} is not a list of paths in base64") from None
