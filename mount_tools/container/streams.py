"""The standard streams of a command: pipes or a terminal, with a keeper at their other ends.

Source: pipe(7), pty(7).
"""

from __future__ import annotations

import os

from mount_tools.container.process import Launch
from unionfs.light_typing import NamedTuple


class Ends(NamedTuple):
    """What becomes stdin, stdout and stderr of the command."""

    stdin: int
    stdout: int
    stderr: int

    def take(self) -> None:
        """Make them descriptors 0, 1 and 2 of this process, a fresh fork."""
        for number, fd in enumerate(self):
            os.dup2(fd, number)

    def close(self) -> None:
        for fd in self:
            os.close(fd)


class Streams(NamedTuple):
    """The keeper's ends: `stdin` is None if the command's is empty."""

    stdin: int | None
    outputs: dict[int, int]
    """From a descriptor of ours to that of the command, 1 or 2."""
    terminal: int | None = None


def _pipes(*, stdin: bool) -> tuple[Streams, Ends]:
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    typed = None
    if stdin:
        os.close(null)
        null, typed = os.pipe()
        os.set_blocking(typed, False)
    out, out_end = os.pipe()
    err, err_end = os.pipe()
    for fd in (out, err):
        os.set_blocking(fd, False)
    return Streams(typed, {out: 1, err: 2}), Ends(null, out_end, err_end)


def _nothing() -> tuple[Streams, Ends]:
    fds = [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) for _ in range(3)]
    return Streams(None, {}), Ends(*fds)


def streams_for(launch: Launch, *, stdin: bool) -> tuple[Streams, Ends]:
    """Return both ends of the streams of a command; `of_terminal` follows if it has a terminal.

    With `stdin` something can be written to its stdin.  The caller closes them: `Ends` once
    the command has them.
    """
    return _nothing() if launch.terminal else _pipes(stdin=stdin)


def of_terminal(master: int) -> Streams:
    """Return the streams of a command whose terminal has that master."""
    os.set_blocking(master, False)
    return Streams(master, {master: 1}, master)
