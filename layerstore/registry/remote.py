"""What a pull and a push need of a repository in a registry.

`layerstore.registry.repository.Repository` is one; the tests have others, which keep
everything in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from layerstore.oci.digest import Digest
from layerstore.oci.documents import Descriptor


class Document(Protocol):
    """A manifest or an index as it came; its digest has been compared with its bytes."""

    @property
    def data(self) -> bytes: ...

    @property
    def media_type(self) -> str: ...

    @property
    def digest(self) -> Digest: ...


class Body(Protocol):
    """The content of a blob from `offset` on, the next byte that is read."""

    @property
    def offset(self) -> int: ...

    def readinto(self, buffer: memoryview, /) -> int:
        """Read bytes into `buffer`; return how many, 0 at the end."""


class Source(Protocol):
    """A repository that images are read from."""

    @property
    def name(self) -> str:
        """The full name, as "docker.io/library/debian"."""

    def head_manifest(self, reference: str) -> Descriptor | None:
        """Return what the tag or digest names, None where the registry does not tell."""

    def get_manifest(self, reference: str) -> Document:
        """Return the manifest or index of the tag or digest."""

    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[Body]:
        """Open a blob, from `offset` on or, where the registry cannot do that, from 0."""

    def tags(self) -> Iterator[str]:
        """Yield every tag."""
