"""Digests: their grammar, how they are computed and how content is compared with them.

Decided here and only here: which algorithms the store accepts.  Only sha256,
which all images in use have; a digest of another algorithm is refused when it
is parsed, so that no later code uses it as a path.

Source: image-spec descriptor.md "Digests", config.md "Layer ChainID".
"""

from __future__ import annotations

import re

from layerstore.errors import DigestMismatch, InvalidDigest, SizeMismatch, shown
from layerstore.oci.sha256 import sha256_hex
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_GRAMMAR = r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+"
_SHA256 = r"sha256:[0-9a-f]{64}"
SHORT = 12


class Digest(str):
    """A digest that was checked: `sha256:` and 64 lower-case hexadecimal digits."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Return `text` as a digest; raises InvalidDigest."""
        if re.fullmatch(_SHA256, text):
            return cls(text)
        if re.fullmatch(_GRAMMAR, text) and not text.startswith("sha256:"):
            raise InvalidDigest(f'unsupported digest "{shown(text)}": this store keeps sha256 only')
        raise InvalidDigest(
            f'invalid digest "{shown(text)}": not "sha256:" and 64 hexadecimal digits'
        )

    @classmethod
    def of_hex(cls, encoded: str) -> Digest:
        """Return the digest whose hexadecimal part is `encoded`; raises InvalidDigest."""
        return cls.parse(f"sha256:{encoded}")

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The hexadecimal part, which names files and directories."""
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The twelve digits that tables show."""
        return self.encoded[:SHORT]


def sha256_digest(data: bytes) -> Digest:
    """Return the digest of `data`."""
    return Digest(f"sha256:{sha256_hex(data)}")


def chain_id(parent: Digest | None, diff_id: Digest) -> Digest:
    """Return the ChainID of the layer `diff_id` on top of the chain `parent`."""
    if parent is None:
        return diff_id
    return sha256_digest(f"{parent} {diff_id}".encode())


class VerifyingReader:
    """A reader of `stream` that raises unless its content is as announced.

    The size bounds what is read, so that content that is too long fails before it
    fills a disk.  The digest is checked only when `read` has returned b"", or
    `finish` has returned.
    """

    def __init__(
        self, stream: BinaryIO, digest: Digest | None = None, size: int | None = None
    ) -> None:
        import hashlib  # loads OpenSSL

        self._stream = stream
        self._expected = digest
        self._expected_size = size
        self._hash = hashlib.sha256()
        self.size = 0
        self._ended = False

    @property
    def digest(self) -> Digest:
        """The digest of the bytes read so far."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def read(self, size: int = -1) -> bytes:
        """Read as from a file; raises SizeMismatch or DigestMismatch at its end at the latest."""
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        data = self._stream.read(size)
        self.size += len(data)
        if self._expected_size is not None and self.size > self._expected_size:
            raise SizeMismatch(
                f"{self._name()} is longer than the {self._expected_size} bytes announced"
            )
        self._hash.update(data)
        if not data and size and not self._ended:
            self._ended = True
            self._check()
        return data

    def finish(self) -> Digest:
        """Read the rest, check it and return the digest of everything."""
        while self.read(1 << 20):
            continue
        return self.digest

    def _check(self) -> None:
        if self._expected_size is not None and self.size != self._expected_size:
            raise SizeMismatch(
                f"{self._name()} ends after {self.size} bytes; {self._expected_size} were announced"
            )
        if self._expected is not None and self.digest != self._expected:
            raise DigestMismatch(
                f"content announced as {self._expected} has the digest {self.digest}; "
                "it was damaged or altered"
            )

    def _name(self) -> str:
        return str(self._expected or "content")
