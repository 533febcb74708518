"""Standard output, and files, that say what they are when they cannot be written.

Decided here and only here: that a full disk, a quota or an I/O error of an output is a StoreError,
wherever a command writes, and that it is reported once: after it nothing more is written.

Source: coreutils `closeout.c`, which ends every program with the write errors of its stdout.
"""

from __future__ import annotations

import io
import sys

from layerstore.errors import StoreError
from mount_tools.cli.errors import WrongWords
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

    from _typeshed import ReadableBuffer

TERMINAL = "cowardly refusing to save to a terminal."


class _Output(io.FileIO):
    """A descriptor whose write raises BrokenPipeError, or StoreError, and that once.

    `what` is what its user calls it.
    """

    def __init__(self, fd: int, what: str, *, closefd: bool) -> None:
        super().__init__(fd, "wb", closefd=closefd)
        self.what = what
        self.failed = False

    def write(self, piece: ReadableBuffer, /) -> int:
        if self.failed:
            return memoryview(piece).nbytes
        try:
            return super().write(piece)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failed = True
            raise StoreError(f"{self.what} cannot be written: {error.strerror}") from None


def standard_output(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return what takes the place of `stream`, the stdout of this process.

    File names are bytes and printed as such.
    """
    output = _Output(stream.fileno(), "the output", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding="utf-8",
        errors="surrogateescape",
        line_buffering=stream.line_buffering,
    )


def file_output(fd: int, path: str) -> BinaryIO:
    """Return a stream that writes to `fd`, which it closes, a file that the user calls `path`."""
    return io.BufferedWriter(_Output(fd, path, closefd=True))


def archive_output(instead: str) -> BinaryIO:
    """Return stdout for an archive.

    Raises WrongWords if it is a terminal, and `instead` says what to do, and StoreError if it
    is closed.
    """
    if sys.stdout.isatty():
        raise WrongWords(f"{TERMINAL} {instead}", 1)
    if sys.__stdout__ is None:
        raise StoreError("the output cannot be written: stdout is closed")
    return sys.stdout.buffer
