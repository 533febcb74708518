"""What pull, push and copy need of a repository in a registry.

`layerstore.registry.repository.Repository` is one; the tests have others, which keep
everything in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from layerstore.oci.digest import Digest
from layerstore.oci.documents import Descriptor, Manifest
from layerstore.registry.retries import Notice
from unionfs.light_typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from typing import Self


class Head(Protocol):
    """The answer to HEAD for a manifest; a field is None if the registry does not send it."""

    @property
    def digest(self) -> Digest | None: ...

    @property
    def media_type(self) -> str: ...


class Document(NamedTuple):
    """A manifest or an index as it came; its digest has been compared with its bytes."""

    data: bytes
    media_type: str
    digest: Digest

    @classmethod
    def of(cls, manifest: Manifest) -> Document:
        """Return the document that `manifest` was read from."""
        return cls(manifest.data, manifest.media_type, manifest.digest)


class Body(Protocol):
    """The content of a blob; `offset` is that of the first byte that is read from it."""

    @property
    def offset(self) -> int: ...

    def readinto(self, buffer: memoryview, /) -> int:
        """Read bytes into `buffer`; return how many, 0 at the end."""


class Source(Protocol):
    """A repository that images are read from; `name` is its full name."""

    @property
    def name(self) -> str: ...

    def head_manifest(self, reference: str) -> Head | None:
        """Return the head of the tag or digest, None if the registry does not answer HEAD."""

    def get_manifest(self, reference: str) -> Document:
        """Return the manifest or index of the tag or digest."""

    def open_blob(
        self, descriptor: Descriptor, offset: int = 0, notice: Notice | None = None
    ) -> AbstractContextManager[Body]:
        """Open a blob, from `offset` on or, if the registry has no ranges, from 0.

        `notice` is called before each wait for another try.
        """

    def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return a whole blob that is a document; its size and digest were checked."""

    def tags(self) -> Sequence[str]:
        """Return every tag."""


class BlobUpload(Protocol):
    """A blob that is being sent; one that is not committed is cancelled at the end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

    def write(self, data: bytes) -> None:
        """Take the next bytes."""

    def commit(self, digest: Digest | None = None) -> Digest:
        """Finish the blob, which has to have `digest` if one is given; return its digest."""


class Target(Source, Protocol):
    """A repository that images are written to; `host` is where it is."""

    @property
    def host(self) -> str: ...

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether the repository has the blob."""

    def mount_blob(self, digest: Digest, source: str) -> BlobUpload | None:
        """Mount the blob from the repository `source` of the same registry.

        `source` is a name without its host.  Returns None if the blob is mounted, and
        otherwise the upload that the registry began instead.
        """

    def upload(self) -> BlobUpload:
        """Begin an upload."""

    def put_manifest(self, reference: str, data: bytes, kind: str, /) -> Digest:
        """Store a manifest or an index; return its digest."""
