"""The body of a blob: read in a stream, and resumed if the connection breaks.

The size is compared with the descriptor's here; the reader checks the digest, because it
hashes the bytes anyway.  A part from another offset than the requested one is never used.

Source: distribution-spec "Pulling blobs"; RFC 9110 section 14.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from layerstore.oci.documents import Descriptor
from layerstore.registry.errors import (
    BadAnswer,
    Cancelled,
    Interrupted,
    Missing,
    RegistryError,
    Unreachable,
    WrongSize,
)
from layerstore.registry.headers import content_range, length
from layerstore.registry.host_client import HostClient
from layerstore.registry.retries import Notice
from layerstore.registry.transport import Answer
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Self

CHUNK = 1 << 20  # bytes
_PROGRESS = 1 << 20  # bytes after which earlier failures no longer count


class BlobSource(NamedTuple):
    """A place to read a blob; `ask` requests it from an offset and returns 200, 206 or 416."""

    client: HostClient
    ask: Callable[[int], Answer]


class BlobBody:
    """The bytes of the blob `descriptor` from `offset` on.

    They come from the first of `sources` that has it; if that one fails in the middle and
    retries do not help, the next one goes on.
    `offset` may be smaller than the requested one: it is 0 if the registry has no ranges.
    The caller closes it.
    """

    def __init__(
        self,
        sources: Iterable[BlobSource],
        descriptor: Descriptor,
        offset: int,
        notice: Notice | None = None,
    ) -> None:
        self._sources = iter(sources)
        self._client, self._ask = next(self._sources)
        self._descriptor = descriptor
        self._notice = notice
        self._answer: Answer | None = None
        self._failed = 0
        self._reached = 0
        self.offset = self._begun(offset)
        self.position = self.offset

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the transfer."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        """Read bytes into `buffer`; return how many, 0 only at the end of the blob.

        Raises WrongSize for a blob that is shorter or longer than its descriptor says,
        and a subclass of Unreachable if the retries did not help.
        """
        view = memoryview(buffer)
        left = self._descriptor.size - self.position
        if left <= 0:
            return self._end()
        while True:
            try:
                count = self._read(view[:left] if left < len(view) else view)
            except (Unreachable, BadAnswer, Missing) as error:
                self._resume(error)
                continue
            self.position += count
            return count

    def chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        """Yield the rest of the blob in pieces of up to `size` bytes."""
        buffer = bytearray(size)
        with memoryview(buffer) as view:
            while count := self.readinto(view):
                yield bytes(view[:count])

    def _read(self, view: memoryview) -> int:
        if self._answer is None:
            self._begin(self.position, skip=True)
            assert self._answer is not None
        count = self._answer.readinto(view)
        if count == 0:
            raise WrongSize(
                f"{self._client.host} sent {self.position} bytes for the blob "
                f"{self._descriptor.digest}; {self._descriptor.size} were announced",
                self._client.host,
            )
        return count

    def _end(self) -> int:
        """Check that nothing follows the last byte; return 0."""
        if self._answer is not None:
            try:
                more = self._answer.readinto(memoryview(bytearray(1)))
            except RegistryError:
                more = 0  # all bytes of the descriptor's size have come already
            self.close()
            if more:
                raise self._longer()
        return 0

    def _longer(self) -> WrongSize:
        return WrongSize(
            f"{self._client.host} sends more than the {self._descriptor.size} bytes that were "
            f"announced for the blob {self._descriptor.digest}",
            self._client.host,
        )

    def _begun(self, offset: int) -> int:
        """Ask the sources in their order; return the offset at which the answer begins."""
        while True:
            try:
                return self._begin(offset)
            except Cancelled:
                raise
            except RegistryError as error:
                self._turn(error)

    def _turn(self, error: RegistryError) -> None:
        """Turn to the next source, or raise `error` if there is none."""
        following = next(self._sources, None)
        if following is None:
            raise error
        self._client, self._ask = following
        self._failed = 0

    def _resume(self, error: RegistryError) -> None:
        """Wait after a failure, and make the next read ask for what is missing."""
        self.close()
        if self.position - self._reached >= _PROGRESS:
            self._failed = 0
        self._reached = self.position
        self._failed += 1
        try:
            self._client.pause(self._failed, error, self._notice)
        except Cancelled:
            raise
        except RegistryError as final:
            self._turn(final)

    def _begin(self, offset: int, skip: bool = False) -> int:
        """Ask for the blob from `offset` on; return the offset at which the answer begins.

        With `skip`, an answer that begins earlier is read up to `offset`.
        """
        size = self._descriptor.size
        if size == 0 or (offset == size and not skip):
            return offset
        answer = self._ask(offset)
        try:
            start = self._start(answer, offset)
            if start is None:
                answer.close()
                answer = self._ask(0)
                start = self._start(answer, 0) or 0
            if skip and start < offset:
                self._skip(answer, offset - start)
                start = offset
        except BaseException:
            answer.close()
            raise
        self._answer = answer
        return start

    def _start(self, answer: Answer, offset: int) -> int | None:
        """Return the offset that `answer` begins at, None if it must not be used."""
        size = self._descriptor.size
        encoding = (answer.headers.get("Content-Encoding") or "identity").strip().lower()
        announced = length(answer.headers.get("Content-Length"))
        if answer.status == 206:
            part = content_range(answer.headers.get("Content-Range"))
            if part is not None and part.first == offset and part.total in (None, size):
                return offset
            if offset:
                return None
            raise BadAnswer(
                f"{self._client.host} sent another part of the blob {self._descriptor.digest} "
                "than was asked for",
                self._client.host,
            )
        if answer.status != 200:
            return None
        if announced is not None and announced != size:
            if encoding != "identity":
                raise self._encoded(encoding)
            raise WrongSize(
                f"{self._client.host} sends {announced} bytes for the blob "
                f"{self._descriptor.digest}; {size} were announced",
                self._client.host,
            )
        if encoding != "identity" and announced is None:
            raise self._encoded(encoding)
        return 0

    def _encoded(self, encoding: str) -> BadAnswer:
        return BadAnswer(
            f"{self._client.host}, or a proxy before it, sends the blob "
            f"{self._descriptor.digest} encoded anew ({encoding[:20]!r}): it must pass blobs on "
            "as they are",
            self._client.host,
            advice="",
        )

    def _skip(self, answer: Answer, count: int) -> None:
        view = memoryview(bytearray(CHUNK))
        while count:
            got = answer.readinto(view[: min(count, CHUNK)])
            if not got:
                raise Interrupted(
                    f"{self._client.host} sent less of the blob than before; try again",
                    self._client.host,
                )
            count -= got
