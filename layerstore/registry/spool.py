"""The download of a blob: one thread appends it to a file, another unpacks it from there.

This module alone decides how a download is hashed, resumed and checked.  The bytes go into
the file of a partial blob; the thread that unpacks follows and reads them from the page
cache.  So the network never waits for the unpacking, memory does not grow with the blob,
and a later try can use the bytes that came.  The reader sees the end of the blob only after
its size and digest were checked.

Threading: one writer, one reader.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from layerstore.db.partial import PartialBlob
from layerstore.errors import DigestMismatch, SizeMismatch
from layerstore.oci.documents import Descriptor
from layerstore.registry.remote import Body
from layerstore.tar.pipeline import Tick

_CHUNK = 1 << 20
# A connection fills the buffer before its bytes are written and shown, and a kill loses them:
# so a slow one gets a small buffer.
_SMALL = 64 << 10
_SLOW, _FAST = 1.0, 0.25  # seconds for one buffer


Open = Callable[[int], AbstractContextManager[Body]]


class Spool(io.RawIOBase):
    """The content of a file that is still growing, for the thread that reads it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._fd = -1
        self._there = 0
        self._at = 0
        self._ended = False
        self._error: BaseException | None = None

    def begin(self, fd: int) -> None:
        """Let the reader read the file `fd`, which is duplicated; later calls do nothing."""
        with self._changed:
            if self._fd < 0 and not self.closed:
                self._fd = os.dup(fd)

    def fileno(self) -> int:
        return self._fd

    def grow(self, there: int) -> None:
        """Tell the reader that the first `there` bytes are in the file."""
        with self._changed:
            self._there = there
            self._changed.notify_all()

    def end(self) -> None:
        """Tell the reader that the blob is complete and its size and digest are right."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Make the reader raise `error`; later calls do nothing."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with self._changed:
            while self._at >= self._there and not self._ended and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            view = memoryview(buffer).cast("B")[: self._there - self._at]
            if not view:
                return 0
            done = os.preadv(self._fd, [view], self._at)
            self._at += done
            return done

    def whole(self) -> None:
        """Wait until `end` was called; raises the error that `fail` was given."""
        with self._changed:
            while not self._ended and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()


class Fetch:
    """The download of one blob into a partial one, whose bytes go on to a spool.

    The reader of the spool sees the bytes of an earlier download only when the whole blob
    has the right digest, so wrong bytes can be replaced before it reads them.  `tick` is
    called with the number of bytes in the file; `check` raises to end the download.
    """

    def __init__(
        self,
        partial: PartialBlob,
        descriptor: Descriptor,
        spool: Spool,
        tick: Tick,
        check: Callable[[], None],
    ) -> None:
        self._partial = partial
        self._descriptor = descriptor
        self._spool = spool
        self._tick = tick
        self._check = check
        self._hash = hashlib.sha256()
        self._size = 0
        self._remains = 0

    def run(self, open_body: Open) -> None:
        """Complete the blob; only what is missing is fetched.

        Raises SizeMismatch or DigestMismatch after it has removed all bytes; after any
        other error the bytes stay for the next try.
        """
        self._take_remains()
        if self._size < self._descriptor.size:
            self._fetch_rest(open_body)
        if self._remains and not self._is_right():
            self._restart()
            self._fetch_rest(open_body)
        if not self._is_right():
            found, size = self._hash.hexdigest(), self._size
            self._restart()
            self._refuse(found, size)
        self._remains = 0
        self._grow()

    def _fetch_rest(self, open_body: Open) -> None:
        self._grow()
        with open_body(self._size) as body:
            # A registry without ranges sends the first bytes again, which are skipped.
            # If they differ from the ones in the file, the digest shows it.
            self._pass_over(body, self._size - body.offset)
            self._receive(body)

    def _is_right(self) -> bool:
        found = self._descriptor
        return self._size == found.size and self._hash.hexdigest() == found.digest.encoded

    def _refuse(self, found: str, size: int) -> None:
        digest, announced = self._descriptor.digest, self._descriptor.size
        if size > announced:
            raise SizeMismatch(f"{digest} is longer than the {announced} bytes announced")
        if size < announced:
            raise SizeMismatch(f"{digest} ends after {size} bytes; {announced} were announced")
        raise DigestMismatch(
            f"content announced as {digest} has the digest sha256:{found}; "
            "it was damaged or altered"
        )

    def _restart(self) -> None:
        self._partial.restart()
        self._hash, self._size, self._remains = hashlib.sha256(), 0, 0

    def _take_remains(self) -> None:
        """Hash the bytes that an earlier download left."""
        size = self._remains = self._partial.size()
        if size > self._descriptor.size:
            self._restart()
            return
        buffer = memoryview(bytearray(_CHUNK))
        while self._size < size:
            self._check()
            done = os.preadv(self._partial.fd, [buffer], self._size)
            self._hash.update(buffer[:done])
            self._size += done

    def _receive(self, body: Body) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        announced = self._descriptor.size
        piece, since = _SMALL, time.monotonic()
        while count := body.readinto(buffer[: min(piece, announced + 1 - self._size)]):
            self._check()
            took = time.monotonic() - since
            if took < _FAST:
                piece = min(piece * 2, _CHUNK)
            elif took > _SLOW:
                piece = max(piece // 2, _SMALL)
            data = buffer[:count]
            self._hash.update(data)
            while data:
                done = os.pwrite(self._partial.fd, data, self._size)
                data = data[done:]
                self._size += done
            if self._size > announced:
                return
            self._grow()
            since = time.monotonic()

    def _pass_over(self, body: Body, size: int) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        while size > 0:
            self._check()
            count = body.readinto(buffer[:size])
            if not count:
                return
            size -= count

    def _grow(self) -> None:
        if not self._remains:
            self._spool.begin(self._partial.fd)
            self._spool.grow(self._size)
        self._tick(self._size)
