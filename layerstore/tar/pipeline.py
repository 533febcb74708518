"""Streams of bytes that one thread reads and hashes while another uses them.

This module alone decides how the work on a layer is divided between two processors.
Reading, decompressing and SHA-256 release the GIL on large buffers.  So they run in their
own thread, a few buffers ahead of the code that uses the bytes (`Feed`), or behind the code
that makes them (`Sink`).  Buffers are reused, because to allocate one costs as much as to
fill it.

Threading: a `Feed` and a `Sink` belong to the thread that made them.  A view
that a `Feed` returns is valid until the next call.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from layerstore.errors import InvalidImage
from layerstore.oci.digest import Digest
from unionfs.light_typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from layerstore.tar.compression import Readable

CHUNK = 1 << 20
_BUFFERS = 6
_JOIN = 5.0  # seconds to wait for a thread that is reading from a stalled pipe

Tick = Callable[[int], None]


class Writable(Protocol):
    """A stream that can be written."""

    def write(self, data: memoryview, /) -> int | None: ...


class Feed:
    """The bytes of `stream`, in order, and the digest of them all.

    `tick` is called now and then, on the reading thread, with the number of bytes read.
    `close` before the end of the stream ends the thread, but not a read of `stream` that
    hangs: the thread then ends after that read.  The last returned view ends at `at` in
    `buffer`.
    """

    def __init__(self, stream: Readable, tick: Tick | None = None) -> None:
        self._stream = stream
        self._tick = tick
        self._hash = hashlib.sha256()
        self._free: SimpleQueue[bytearray | None] = SimpleQueue()
        self._full: SimpleQueue[tuple[bytearray, int] | BaseException | None] = SimpleQueue()
        for _ in range(_BUFFERS):
            self._free.put(bytearray(CHUNK))
        self.buffer = bytearray()
        self._view = memoryview(b"")
        self.at = self._end = 0
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="tar reader", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        into = getattr(self._stream, "readinto", None)
        done = 0
        try:
            while (buffer := self._free.get()) is not None:
                size = self._fill(buffer, into)
                if size == 0:
                    break
                self._full.put((buffer, size))
                self._hash.update(memoryview(buffer)[:size])
                done += size
                if self._tick is not None:
                    self._tick(done)
            self._full.put(None)
        except BaseException as error:
            self._full.put(error)

    def _fill(self, buffer: bytearray, into: Callable[[memoryview], int] | None) -> int:
        view = memoryview(buffer)
        at = 0
        while at < CHUNK:
            if into is not None:
                size = into(view[at:]) or 0
            else:
                data = self._stream.read(CHUNK - at)
                size = len(data)
                view[at : at + size] = data
            if size == 0:
                break
            at += size
        return at

    def _next(self) -> bool:
        """Take the next buffer; return False at the end of the stream."""
        if self._ended:
            return False
        if self.buffer:
            self._free.put(self.buffer)
            self.buffer = bytearray()
        self.at = self._end = 0
        found = self._full.get()
        if found is None:
            self._ended = True
            return False
        if isinstance(found, BaseException):
            self._ended = True
            raise found
        self.buffer, self._end = found
        self._view = memoryview(self.buffer)
        return True

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end of the stream."""
        at = self.at
        if at + size <= self._end:
            self.at = at + size
            return bytes(self._view[at : at + size])
        return b"".join(map(bytes, self.views(size)))

    def views(self, size: int) -> Iterator[memoryview]:
        """Yield the next `size` bytes piece by piece, fewer only at the end of the stream."""
        while size:
            if self.at == self._end and not self._next():
                return
            step = min(size, self._end - self.at)
            at = self.at
            self.at = at + step
            size -= step
            yield self._view[at : at + step]

    def pass_over(self, size: int, raw: Callable[[memoryview], None]) -> int:
        """Pass the next `size` bytes to `raw`; return how many there were."""
        done = 0
        for view in self.views(size):
            raw(view)
            done += len(view)
        return done

    def rest(self) -> Iterator[memoryview]:
        """Yield the rest of the stream."""
        while self.at < self._end or self._next():
            at, self.at = self.at, self._end
            yield self._view[at : self._end]

    def digest(self) -> Digest:
        """Return the digest of the whole stream, which has been read to its end."""
        self._thread.join()
        if not self._ended:
            raise AssertionError("the stream has not been read to its end")
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def close(self) -> None:
        """End the thread.  Idempotent."""
        self._ended = True
        self._free.put(None)
        self._thread.join(_JOIN)

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sink:
    """Hashes bytes, and writes them to `out` if there is one.

    `finish` returns the digest, or the digest of no bytes if `hashing` is off.  If a write
    fails, the next call raises the error.
    """

    def __init__(
        self, out: Writable | None = None, tick: Tick | None = None, *, hashing: bool = True
    ) -> None:
        self._out = out
        self._hashing = hashing
        self._tick = tick
        self._hash = hashlib.sha256()
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._full: SimpleQueue[tuple[bytearray, int] | None] = SimpleQueue()
        for _ in range(_BUFFERS):
            self._free.put(bytearray(CHUNK))
        self._buffer = self._free.get()
        self._view = memoryview(self._buffer)
        self._at = 0
        self._error: BaseException | None = None
        self.size = 0
        self._open = True
        self._thread = threading.Thread(target=self._drain, name="tar writer", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        done = 0
        while (found := self._full.get()) is not None:
            buffer, size = found
            if self._error is None:
                try:
                    view = memoryview(buffer)[:size]
                    if self._hashing:
                        self._hash.update(view)
                    if self._out is not None:
                        write_all(self._out, view)
                    done += size
                    if self._tick is not None:
                        self._tick(done)
                except BaseException as error:
                    self._error = error
            self._free.put(buffer)

    def room(self) -> memoryview:
        """Return the free part of the current buffer, never empty; see `filled`."""
        if self._at == CHUNK:
            self._flush()
        return self._view[self._at :]

    def filled(self, size: int) -> None:
        """Write the first `size` bytes of `room`, which the caller has filled."""
        self._at += size
        self.size += size

    def write(self, data: bytes | memoryview) -> None:
        """Write all of `data`."""
        size = len(data)
        at = self._at
        if at + size <= CHUNK:
            self._view[at : at + size] = data
            self._at = at + size
            self.size += size
            return
        view = memoryview(data)
        while view:
            room = self.room()
            step = min(len(room), len(view))
            room[:step] = view[:step]
            self.filled(step)
            view = view[step:]

    def zeros(self, size: int) -> None:
        """Write `size` zero bytes."""
        while size:
            step = min(size, CHUNK)
            self.write(_ZEROS[:step])
            size -= step

    def _flush(self) -> None:
        self._full.put((self._buffer, self._at))
        self._buffer = self._free.get()
        self._view = memoryview(self._buffer)
        self._at = 0
        if self._error is not None:
            raise self._error

    def finish(self) -> Digest:
        """Write the remaining bytes and return the digest of all bytes."""
        self._flush()
        self.close()
        if self._error is not None:
            raise self._error
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def close(self) -> None:
        """End the thread.  Idempotent."""
        if self._open:
            self._open = False
            self._full.put(None)
            self._thread.join()

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_ZEROS = memoryview(bytes(CHUNK))


def write_all(out: Writable, view: memoryview) -> None:
    """Write all of `view`, in as many pieces as `out` takes."""
    while view:
        done = out.write(view)
        if done is None:
            raise BlockingIOError("the output is not ready to be written")
        view = view[done:]


def short(what: str) -> InvalidImage:
    """Return the error for a stream that ends within `what`."""
    return InvalidImage(f"the archive is cut short: it ends within {what}")
