"""One upload of a blob: in chunks, or in one request if the blob is small.

The address of an upload changes with each answer, may be on another host, and contains the
state that the registry needs, so it is used exactly as it came.  A chunk is kept until the
registry has it: if a connection breaks, or the registry says that it is at another offset,
the rest of the chunk is sent from there.

Source: distribution-spec "Pushing blobs".
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote

from layerstore.oci.digest import Digest
from layerstore.registry.errors import (
    BadAnswer,
    RateLimited,
    RegistryError,
    Unreachable,
    UploadInvalid,
    UploadLost,
)
from layerstore.registry.headers import length, uploaded
from layerstore.registry.host_client import Call, HostClient
from layerstore.registry.retries import Notice
from layerstore.registry.transport import Answer
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

CHUNK = 16 << 20  # bytes of a chunk, which are held in memory
_LARGEST_CHUNK = 256 << 20  # bytes that a registry may ask for
_STREAM = "application/octet-stream"


class Upload:
    """An upload into a repository; `write` its bytes, then `commit`.

    One that is not committed is cancelled when its `with` block ends.
    """

    def __init__(
        self,
        client: HostClient,
        repository: str,
        scopes: tuple[str, ...],
        opened: Answer | None = None,
        chunk: int = CHUNK,
        notice: Notice | None = None,
    ) -> None:
        self._client = client
        self._repository = repository
        self._scopes = scopes
        self._notice = notice
        self._pieces: list[bytes] = []
        self._held = 0
        self._hash = hashlib.sha256()
        self._chunk = chunk
        self._location: str | None = None
        self._done = False
        self.size = 0  # bytes written
        self.sent = 0  # bytes that the registry has
        if opened is not None:
            self._moved(opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._done:
            self.cancel()

    @property
    def digest(self) -> Digest:
        """The digest of the bytes that were written so far."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def write(self, data: bytes) -> None:
        """Take bytes of the blob; a chunk is sent once it is full.

        Raises UploadLost if the registry lost the upload, which then has to start again.
        """
        self._hash.update(data)
        self.size += len(data)
        self._held += len(data)
        self._pieces.append(data)
        if self._held >= self._chunk:
            self._send_chunk()

    def commit(self, digest: Digest | None = None) -> Digest:
        """Finish the upload and return the digest of the blob.

        Raises UploadInvalid if the blob does not have the `digest` that was expected, or
        the registry refuses it.
        """
        own = self.digest
        if digest is not None and digest != own:
            raise UploadInvalid(
                f"what was to be uploaded as {digest} has the digest {own}: it was damaged here",
                self._client.host,
            )
        if self._location is None:
            self._start()
        failed = 0
        while True:
            try:
                self._put(own)
                break
            except (Unreachable, RateLimited) as error:
                failed += 1
                self._client.pause(failed, error, self._notice)
                if self._has(own):
                    break
                self._synchronise()
        self._done = True
        self._pieces.clear()
        return own

    def cancel(self) -> None:
        """Tell the registry to drop the upload; a failure is ignored."""
        self._done = True
        self._pieces.clear()
        if self._location is None:
            return
        try:
            self._client.open_once(self._call("DELETE", (202, 204, 404))).close()
        except RegistryError:
            pass  # a registry drops abandoned uploads by itself, too

    def _start(self) -> None:
        call = Call(
            "POST",
            f"/v2/{self._repository}/blobs/uploads/",
            f"an upload to {self._repository}",
            self._scopes,
            self._repository,
            expected=(202,),
        )
        answer = self._client.open(call, self._notice)
        answer.close()
        self._moved(answer)

    def _send_chunk(self) -> None:
        if self._location is None:
            self._start()
            if self._held < self._chunk:
                return  # the registry wants larger chunks
        failed = 0
        while self._held:
            try:
                self._patch()
            except (Unreachable, RateLimited) as error:
                failed += 1
                self._client.pause(failed, error, self._notice)
                self._synchronise()

    def _patch(self) -> None:
        first, count = self.sent, self._held
        headers = {
            "Content-Type": _STREAM,
            "Content-Range": f"{first}-{first + count - 1}",
        }
        call = self._call("PATCH", (201, 202, 204, 416), headers)._replace(body=self._pieces)
        answer = self._client.open_once(call)
        answer.close()
        if answer.status == 416:
            self._synchronise()
            if self.sent == first and self._held == count:
                raise UploadInvalid(
                    f"{self._client.host} refuses the bytes from {first} on of an upload to "
                    f"{self._repository}",
                    self._client.host,
                )
            return
        self._moved(answer)
        has = uploaded(answer.headers.get("Range"))
        # Without the header, or with an impossible value, the whole chunk counts as taken.
        self._taken(has if has is not None and first < has <= first + count else first + count)

    def _put(self, digest: Digest) -> None:
        location = self._location or ""
        joint = "&" if "?" in location else "?"
        headers = {"Content-Type": _STREAM}
        if self._held and self.sent:
            headers["Content-Range"] = f"{self.sent}-{self.sent + self._held - 1}"
        call = self._call("PUT", (201, 202, 204), headers)._replace(
            path=f"{location}{joint}digest={quote(digest, safe=':')}", body=self._pieces
        )
        self._client.open_once(call).close()

    def _synchronise(self) -> None:
        """Ask how many bytes the registry has, and go on from there.

        Raises UploadLost if it no longer knows the upload, or if it lacks bytes that are no
        longer in memory.
        """
        answer = self._client.open(self._call("GET", (200, 202, 204)), self._notice)
        answer.close()
        self._moved(answer)
        has = uploaded(answer.headers.get("Range")) or 0
        if not self.sent <= has <= self.sent + self._held:
            raise UploadLost(
                f"{self._client.host} has {has} bytes of the upload to {self._repository} where "
                f"{self.sent} count: the upload has to start again",
                self._client.host,
            )
        self._taken(has)

    def _taken(self, until: int) -> None:
        """Forget the bytes before the offset `until`, which the registry has."""
        gone = until - self.sent
        self.sent = until
        self._held -= gone
        while gone:
            piece = self._pieces[0]
            if len(piece) <= gone:
                gone -= len(piece)
                del self._pieces[0]
            else:
                self._pieces[0] = piece[gone:]
                gone = 0

    def _has(self, digest: Digest) -> bool:
        """Tell whether the registry has the blob although its answer was lost."""
        path = f"/v2/{self._repository}/blobs/{digest}"
        call = Call(
            "HEAD", path, f"the blob {digest}", self._scopes, self._repository, expected=(200, 404)
        )
        answer = self._client.open(call, self._notice)
        answer.close()
        return answer.status == 200

    def _moved(self, answer: Answer) -> None:
        """Take over the address of the upload from `answer`."""
        location = answer.headers.get("Location")
        if location is not None:
            self._location = self._client.located(answer.url, location)
        if self._location is None:
            raise BadAnswer(
                f"{self._client.host} began an upload without saying where", self._client.host
            )
        least = length(answer.headers.get("OCI-Chunk-Min-Length")) or 0
        if least > _LARGEST_CHUNK:
            raise BadAnswer(
                f"{self._client.host} wants chunks of {least} bytes; that much is not held in "
                "memory here",
                self._client.host,
            )
        self._chunk = max(self._chunk, least)

    def _call(
        self, method: str, expected: tuple[int, ...], headers: dict[str, str] | None = None
    ) -> Call:
        return Call(
            method,
            self._location or "",
            f"an upload to {self._repository}",
            self._scopes,
            self._repository,
            headers or {},
            missing=UploadLost,
            expected=expected,
        )
