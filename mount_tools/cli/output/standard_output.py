"""Standard output, which says what it is when it cannot be written.

Decided here and only here: that a full disk, a quota or an I/O error of stdout is a StoreError,
wherever a command prints, and that it is reported once: after it nothing more is written.

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
    """A descriptor whose write raises BrokenPipeError, or StoreError, and that once."""

    failed = False

    def write(self, piece: ReadableBuffer, /) -> int:
        if self.failed:
            return memoryview(piece).nbytes
        try:
            return super().write(piece)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failed = True
            raise StoreError(f"the output cannot be written: {error.strerror}") from None


def standard_output(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return what takes the place of `stream`, the stdout of this process.

    File names are bytes and printed as such.
    """
    output = _Output(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding="utf-8",
        errors="surrogateescape",
        line_buffering=stream.line_buffering,
    )


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
