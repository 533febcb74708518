"""The report of a detached process to the process that started it.

Both ends of the pipe are here.  Decided here and only here: what the messages are, and
that silence means death.  A process that ends without a message, whatever killed it, has
failed; only an explicit `Live` is a success.

A process may send more than one message and the last one counts.  So a process that is
about to call execve(2) sends `Live`, and after that `Failed` if execve returns:

    reporter.live()
    try:
        os.execve(...)  # closes the pipe, which is close-on-exec
    except OSError as error:
        reporter.failed(126, str(error))

Source: pipe(7) "PIPE_BUF": a write of at most PIPE_BUF bytes is not split.
"""

from __future__ import annotations

import os
import select
import struct
from contextlib import suppress

from unionfs.light_typing import NamedTuple

_LIVE = 1
_FAILED = 2
_HEADER = struct.Struct("=BBH")  # kind, status, bytes of text
_LONGEST_TEXT = select.PIPE_BUF - _HEADER.size  # bytes


class Live(NamedTuple):
    """The work has begun: the mount is live, or the command runs."""


class Failed(NamedTuple):
    """The work did not begin: the exit status for the starter, and a sentence for the user."""

    status: int
    text: str


class Died(NamedTuple):
    """The process ended without a report; `how` continues the sentence "the process …"."""

    how: str = "ended without a report"


Report = Live | Failed | Died


class Reporter:
    """The sending end.  The process that closes it, or ends, sends nothing more."""

    def __init__(self, fd: int) -> None:
        """`fd` is the writing end of a pipe; `close` closes it."""
        self.fd = fd
        self.sent = False
        """Whether a message was sent."""

    def live(self) -> None:
        """Send `Live`; raises `BrokenPipeError` if the process that waits is gone."""
        self._send(_LIVE, 0, b"")

    def failed(self, status: int, text: str) -> None:
        """Send `Failed`; `status` is 1 … 255.  It is no error if nobody waits for it."""
        if status == 0:
            raise ValueError("a failure needs an exit status other than 0")
        data = text.encode(errors="surrogateescape")[:_LONGEST_TEXT]
        with suppress(BrokenPipeError):
            self._send(_FAILED, status, data)

    def close(self) -> None:
        """Close the pipe, so that `receive` returns."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _send(self, kind: int, status: int, text: bytes) -> None:
        self.sent = True
        os.write(self.fd, _HEADER.pack(kind, status, len(text)) + text)


def receive(fd: int) -> Report:
    """Wait until every writing end of the pipe `fd` is closed; return the last message.

    The caller closes `fd`.
    """
    data = b""
    while piece := os.read(fd, select.PIPE_BUF):
        data += piece
    return last_message(data)


def last_message(data: bytes) -> Report:
    """Return the last message in what was sent through a pipe."""
    report: Report = Died()
    while len(data) >= _HEADER.size:
        kind, status, length = _HEADER.unpack_from(data)
        text, data = data[_HEADER.size :][:length], data[_HEADER.size + length :]
        if kind == _LIVE:
            report = Live()
        else:
            report = Failed(status, text.decode(errors="surrogateescape"))
    return report
