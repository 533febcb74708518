"""Blobs: content stored under its own digest, written once and never changed.

A blob that is there is complete: it is built in staging, compared with its digest
and size, synced, and only then renamed to its name.  Storing a blob that is there
already replaces it by the same bytes, which repairs a damaged one.

A blob that no image names yet is collected unless its maker holds a work lease
(`Leases.lease`) from before `put`, or from before `need` returned True.

Source: image-spec image-layout.md "Blobs".
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from layerstore.db.durability import open_directory
from layerstore.db.foundation import Foundation, Part
from layerstore.db.image_table import ImageTable
from layerstore.db.layer_table import LayerTable
from layerstore.errors import DigestMismatch, InvalidDigest, NotFound
from layerstore.oci.digest import Digest, VerifyingReader, sha256_digest
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_CHUNK = 1 << 20
_AT_ONCE = 64  # blobs removed in one transaction


class BlobStore(Part):
    """The directory `<root>/blobs`."""

    def __init__(self, foundation: Foundation) -> None:
        super().__init__(foundation)
        self._directory = foundation.root / "blobs" / "sha256"
        self._images = ImageTable(foundation.database)
        self._layers = LayerTable(foundation.database)

    def put(
        self, content: bytes | BinaryIO, expected: Digest | None = None, size: int | None = None
    ) -> Digest:
        """Store `content` and return its digest; once this returns it is safe on disk.

        Raises DigestMismatch or SizeMismatch, and stores nothing, if it is not what
        was expected.
        """
        stream = io.BytesIO(content) if isinstance(content, bytes) else content
        with self._staging.to_build() as own:
            reader = VerifyingReader(stream, expected, size)
            with open(own / "blob", "xb", buffering=0) as out:
                while data := reader.read(_CHUNK):
                    _write(out, data)
                self._durability.file(out.fileno())
            digest = reader.digest
            self._leases.hold("blob", digest)
            os.rename(own / "blob", self.path(digest))
            self._durability.directory(self._directory)
        return digest

    def adopt(self, fd: int, digest: Digest, size: int) -> None:
        """Make the open file `fd` the blob `digest` too; it keeps its own name as well.

        The caller has hashed and synced the whole file, and never changes it again.
        """
        self._leases.hold("blob", digest)
        try:
            with suppress(FileExistsError), open_directory(self._directory) as at:
                # Only with the fd of a directory does Python's link() follow the first name.
                source = f"/proc/self/fd/{fd}"
                os.link(source, digest.encoded, src_dir_fd=at.fd, dst_dir_fd=at.fd)
        except FileNotFoundError:  # its name was removed: only a copy gets a new one
            with open(f"/proc/self/fd/{fd}", "rb") as stream:
                self.put(stream, digest, size)
        self._durability.directory(self._directory)

    def open(self, digest: Digest) -> BinaryIO:
        """Open the blob `digest` for reading; the caller closes it.

        Raises NotFound, and DigestMismatch if there is something that is no file.
        """
        try:
            # It does not wait for what may write to a FIFO.
            fd = os.open(self.path(digest), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _missing(digest) from None
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            raise _no_file(digest) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise _no_file(digest)
        return open(fd, "rb")

    def read(self, digest: Digest) -> bytes:
        """Return the content of a blob that is a document.

        Raises NotFound, and DigestMismatch if it was damaged on disk.
        """
        with self.open(digest) as blob:
            data = blob.read()
        if sha256_digest(data) != digest:
            raise DigestMismatch(
                f"the blob {digest} is damaged: its content has another digest; "
                "`pyunion check` shows what depends on it"
            )
        return data

    def has(self, digest: Digest) -> bool:
        """Tell whether the blob is there."""
        return self.path(digest).exists()

    def need(self, digest: Digest) -> bool:
        """Tell whether the blob is there, and lease it for the work of this process."""
        with self._database.transaction():
            self._leases.hold("blob", digest)
            return self.has(digest)

    def size(self, digest: Digest) -> int:
        """Return the size of a blob in bytes; raises NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise _missing(digest) from None

    def path(self, digest: Digest) -> Path:
        """Return where the blob is, or would be."""
        return self._directory / digest.encoded

    def unneeded(self, digest: Digest) -> bool:
        """Tell whether the blob is there and no image, layer or lease names it."""
        with self._database.still():  # rows and leases are of the same moment
            named = self._is_named(digest) or digest in self._leases.named()
            return not named and self.has(digest)

    def collect(self, digests: Iterable[Digest]) -> list[Digest]:
        """Remove those of the blobs that nothing names or leases; return them.

        The write lock is held while names are removed, not while space is freed.
        """
        gone: list[Digest] = []
        waiting = iter(digests)
        while some := list(itertools.islice(waiting, _AT_ONCE)):
            with ExitStack() as files, self._database.transaction():
                leased = self._leases.kept()
                for digest in some:
                    if self._is_named(digest):
                        continue
                    if digest in leased:
                        self._leases.afterwards(digest)
                        continue
                    with suppress(FileNotFoundError):
                        # The space of a file is freed when its last descriptor is closed.
                        files.enter_context(self.path(digest).open("rb"))
                        os.unlink(self.path(digest))
                    gone.append(digest)
        return gone

    def _is_named(self, digest: Digest) -> bool:
        return self._images.names_blob(digest) or self._layers.names_blob(digest)

    def forget(self, digest: Digest) -> None:
        """Delete the rows of a layer's blob or a manifest; its file is the caller's."""
        with self._database.transaction():
            self._layers.delete_blob(digest)
            self._images.delete_manifest(digest)

    def all(self) -> Iterator[Digest]:
        """Yield the digest of every blob."""
        for name in sorted(os.listdir(self._directory)):
            if _is_blob(name):
                yield Digest.of_hex(name)

    def strangers(self) -> list[Path]:
        """Return what is beside the blobs and is none."""
        top = self._directory.parent
        return [
            *(top / name for name in sorted(os.listdir(top)) if name != self._directory.name),
            *(
                self._directory / name
                for name in sorted(os.listdir(self._directory))
                if not _is_blob(name)
            ),
        ]


def _is_blob(name: str) -> bool:
    try:
        Digest.of_hex(name)
    except InvalidDigest:
        return False
    return True


def _write(out: io.RawIOBase, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = out.write(view)
        view = view[written or 0 :]


def _no_file(digest: Digest) -> DigestMismatch:
    return DigestMismatch(
        f"the blob {digest} is damaged: it is no file; `pyunion check` shows what depends on it"
    )


def _missing(digest: Digest) -> NotFound:
    return NotFound(f"the blob {digest} is missing; `pyunion check` shows what needs it")
