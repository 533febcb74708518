"""The log of a container: the output of its command, which the container's keeper writes.

`containers/<id>/log.json` has an object a line, as docker's json-file driver writes them:

    {"log": "text\\n", "stream": "stdout", "time": "2026-01-31T10:00:00.123456789Z"}

A line of more than 16 KiB becomes several objects; only the last of
them ends in a newline.  Bytes that are not UTF-8 are shown as U+FFFD.  When the file has
`MAX_BYTES` it is renamed to `log.1.json`, which replaces the one before; so a log takes at
most twice as much.

Decided here and only here: the format and the limit.  A log that cannot be written never
stops the container: lost bytes are counted, and `tell_lost`, or the next line that can be
written, says how many.

Threading: one process writes, any number read meanwhile.

Source: moby `daemon/logger/jsonfilelog`, `daemon/logger/copier.go`.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from layerstore.errors import InvalidImage
from layerstore.light_json import encode_basestring
from layerstore.oci.timestamps import format_timestamp, parse_timestamp
from unionfs.light_typing import Literal, NamedTuple

MAX_BYTES = 16 << 20
LONGEST = 16 << 10  # bytes of the command's output in one object

Stream = Literal["stdout", "stderr"]

# The part of json.dumps() that a line needs, which is several times faster alone.
_quoted = encode_basestring

NAME = "log.json"
_BEFORE = "log.1.json"


class LogEntry(NamedTuple):
    """One object of a log: `time_ns` since 1970, and what the command wrote to `stream`."""

    time_ns: int
    stream: Stream
    text: str


class LogWriter:
    """The writing end of the log in `directory`.  `close` writes what is left and closes it."""

    def __init__(self, directory: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._fd = -1
        self._size = 0
        self._begun: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
        self._lost = 0
        self._reason = ""

    def write(self, stream: Stream, data: bytes) -> bool:
        """Write what the command printed; tell whether any line was finished by it.

        The last line is kept until its newline comes.  Never raises OSError.
        """
        lines = _lines(self._begun[stream] + data)
        self._begun[stream] = b""
        if lines and not lines[-1].endswith(b"\n") and len(lines[-1]) < LONGEST:
            self._begun[stream] = lines.pop()
        if lines:
            self._append(stream, lines)
        return bool(lines)

    @property
    def has_lost(self) -> bool:
        """Whether bytes were lost that the log does not tell of yet."""
        return self._lost > 0

    def tell_lost(self) -> bool:
        """Write how many bytes were lost, if there is room now; tell whether it was written."""
        if self._lost:
            self._put([], 0)
            return not self._lost
        return False

    def close(self) -> None:
        """Write lines that have no newline, and what was lost, and close the file."""
        for stream, rest in self._begun.items():
            if rest:
                self._append(stream, [rest])
                self._begun[stream] = b""
        self.tell_lost()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, stream: Stream, lines: Iterable[bytes]) -> None:
        end = _end(stream, time.time_ns())
        batch: list[bytes] = []
        size = told = 0
        for line in lines:
            for start in range(0, len(line), LONGEST):
                piece = line[start : start + LONGEST]
                data = _BEGIN + _quoted(piece.decode(errors="replace")).encode() + end
                if batch and self._size + size + len(data) > self._max_bytes:
                    self._put(batch, told)
                    batch, size, told = [], 0, 0
                batch.append(data)
                size += len(data)
                told += len(piece)
        if batch:
            self._put(batch, told)

    def _put(self, batch: list[bytes], told: int) -> None:
        """Write the lines of `batch`, which stand for `told` bytes of output; or count them."""
        try:
            if self._lost:
                text = f"[pyunion: {self._lost} bytes of output are missing here: {self._reason}]\n"
                notice = _BEGIN + _quoted(text).encode() + _end("stderr", time.time_ns())
                self._write(notice)
                self._lost = 0
            if batch:
                self._write(b"".join(batch))
        except OSError as error:
            self._lost += told
            self._reason = error.strerror or str(error)

    def _write(self, data: bytes) -> None:
        if self._fd >= 0 and self._size + len(data) > self._max_bytes:
            os.close(self._fd)
            self._fd = -1
            os.rename(self._directory / NAME, self._directory / _BEFORE)
        if self._fd < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self._directory / NAME, flags, 0o640)
            self._size = os.fstat(self._fd).st_size
            self._mend()
        written = os.write(self._fd, data)
        if written < len(data):
            # Half a line cannot be read.  A file can be cut on a full disk too.
            os.ftruncate(self._fd, self._size)
            raise OSError("the disk is full")
        self._size += written

    def _mend(self) -> None:
        """End an incomplete line, whose writer was killed, so that the next one is complete."""
        with open(self._directory / NAME, "rb") as file:
            if self._size:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    self._size += os.write(self._fd, b"\n")


def _lines(data: bytes) -> list[bytes]:
    """Split at newlines only; a carriage return is part of its line."""
    pieces = data.split(b"\n")
    lines = [piece + b"\n" for piece in pieces[:-1]]
    return [*lines, pieces[-1]] if pieces[-1] else lines


_BEGIN = b'{"log": '


def _end(stream: Stream, time_ns: int) -> bytes:
    """Return what follows the text in a line of the log."""
    return f', "stream": "{stream}", "time": "{format_timestamp(time_ns)}"}}\n'.encode()


class LogReader:
    """Reads the log in `directory` from its beginning on, across the change of files.

    A context manager.  There may be no log yet.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: deque[int] = deque()
        self._rest = b""

    def __enter__(self) -> LogReader:
        # In this order a file that is renamed in between is opened twice, and not missed.
        current = self._open(NAME)
        before = self._open(_BEFORE)
        if current is not None and before is not None and _same(current, before):
            os.close(before)
            before = None
        self._files.extend(fd for fd in (before, current) if fd is not None)
        return self

    def __exit__(self, *_: object) -> None:
        while self._files:
            os.close(self._files.popleft())

    def entries(self) -> Iterator[LogEntry]:
        """Yield the entries that were not read yet.  Damaged lines are left out."""
        while True:
            if not self._files:
                opened = self._open(NAME)
                if opened is None:
                    return
                self._files.append(opened)
            yield from self._of(self._files[0])
            if len(self._files) == 1:
                following = self._following(self._files[0])
                if following is None:
                    return
                self._files.append(following)
                # What was written to the first one before it was renamed.
                yield from self._of(self._files[0])
            os.close(self._files.popleft())
            self._rest = b""

    def _of(self, fd: int) -> Iterator[LogEntry]:
        while data := os.read(fd, 1 << 16):
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()
            for line in lines:
                entry = _entry(line)
                if entry is not None:
                    yield entry

    def _following(self, fd: int) -> int | None:
        """Return the file that took the name of `fd`, opened; None if none did."""
        opened = self._open(NAME)
        if opened is not None and _same(opened, fd):
            os.close(opened)
            return None
        return opened

    def _open(self, name: str) -> int | None:
        with suppress(FileNotFoundError):
            return os.open(
                self._directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            )
        return None


def _same(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


def _entry(line: bytes) -> LogEntry | None:
    from json import loads  # few commands read a log

    try:
        match loads(line):
            case {"log": str(text), "stream": "stdout" | "stderr" as stream, "time": str(at)}:
                return LogEntry(parse_timestamp(at), stream, text)
    except (ValueError, RecursionError, InvalidImage):
        return None
    return None
