"""Downloads: blobs that are not whole yet, kept so that a later process goes on with them.

A file `<root>/partial/<hex>` has the first bytes of the blob of that digest.  What it holds
counts for nothing until it was hashed again.  It is kept after a failure and after the death
of the process; a pull that succeeds removes it, and so does `prune`.

Whole, it may be the same file as the blob in the store.  So it is only ever appended to
while it is not whole, and replaced, never truncated, where it is wrong.

A claim is an flock(2): one process, and one thread of it, has a blob at a time; the kernel
drops it when the process ends.  `<hex>.layer` is the claim to unpack a layer, by chain_id.
No claim to a blob is held while one to a layer is waited for, so that no circle can form.

Threading: any thread; each claim is of the thread that took it.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from layerstore.db.file_locks import is_at, try_lock
from layerstore.oci.digest import Digest

_POLL = 0.02  # seconds; flock(2) cannot be waited for together with anything else
_NAME = r"[0-9a-f]{64}(?:\.layer|\.[0-9a-f]{16})?"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def is_ours(name: str) -> bool:
    """Tell whether a file of that name is a download, the claim to a layer, or left of either."""
    return re.fullmatch(_NAME, name) is not None


class PartialBlob:
    """A claimed download; `fd` is its file."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self.fd = fd

    @property
    def path(self) -> Path:
        return self._path

    def size(self) -> int:
        """Return the bytes that are there."""
        return os.fstat(self.fd).st_size

    def restart(self) -> None:
        """Begin again with an empty file; the claim is kept."""
        fresh = self._path.with_name(f"{self._path.name}.{os.urandom(8).hex()}")
        fd = os.open(fresh, _FLAGS | os.O_EXCL, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.rename(fresh, self._path)
        os.close(self.fd)
        self.fd = fd


class PartialBlobs:
    """The directory `<root>/partial`, which an older store lacks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def claim(self, digest: Digest, wait: Callable[[], object]) -> Iterator[PartialBlob]:
        """Claim the download of a blob; its file is empty if there was none.

        While another process or thread has it, `wait` is called now and then; it may raise
        to give up.
        """
        path = self._directory / digest.encoded
        partial = PartialBlob(path, self._claimed(path, wait))
        try:
            yield partial
        finally:
            # A duplicate of the fd, which the reader of the file may have, shares the lock.
            fcntl.flock(partial.fd, fcntl.LOCK_UN)
            os.close(partial.fd)

    @contextmanager
    def claim_layer(self, chain: Digest, wait: Callable[[], object]) -> Iterator[None]:
        """Claim the unpacking of a layer, as `claim` does a blob."""
        path = self._directory / f"{chain.encoded}.layer"
        fd = self._claimed(path, wait)
        try:
            yield
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
            os.close(fd)

    def remove(self, digest: Digest) -> None:
        """Remove a download, if there is one, unless a process has claimed it."""
        self._remove_free(self._directory / digest.encoded)

    def sweep(self, older_ns: int = 0, *, dry_run: bool = False) -> int:
        """Remove the downloads last written before `older_ns` ago that no process has claimed.

        Returns the bytes that this frees, or would with `dry_run`.
        """
        return sum(self._remove_free(path, older_ns, dry_run=dry_run) for path in self.all())

    def strangers(self) -> list[Path]:
        """Return what is there that nothing of a store made."""
        return [path for path in self.all() if not is_ours(path.name)]

    def _remove_free(self, path: Path, older_ns: int = 0, *, dry_run: bool = False) -> int:
        """Remove the file if it is not claimed; return the bytes that this frees."""
        with self._looked_at(path) as fd:
            if fd is None:
                return 0
            found = os.fstat(fd)
            if time.time_ns() - found.st_mtime_ns < older_ns:
                return 0
            if not dry_run:
                os.unlink(path)
            return found.st_blocks * 512 if found.st_nlink == 1 else 0

    @contextmanager
    def _looked_at(self, path: Path) -> Iterator[int | None]:
        """Lock the file `path` for the block; yield its descriptor, None if it is claimed."""
        with ExitStack() as stack:
            found = None
            with suppress(OSError):  # removed meanwhile, or not what a download is
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                found = fd if try_lock(fd) and is_at(fd, path) else None
            yield found

    def all(self) -> list[Path]:
        """Return every file in the directory, those of claims included."""
        with suppress(FileNotFoundError):
            return sorted(self._directory.iterdir())
        return []

    def _claimed(self, path: Path, wait: Callable[[], object]) -> int:
        with suppress(FileExistsError):
            self._directory.mkdir(mode=0o700)
        while True:
            fd = os.open(path, _FLAGS, 0o600)
            try:
                while not try_lock(fd):
                    wait()
                    time.sleep(_POLL)
                if is_at(fd, path):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # it was removed, or replaced, by the one that had it
