"""Add an image to an OCI layout that exists, or to an empty directory.

A file gets its name once it is whole and synced, and index.json comes last: a reader sees the
layout without the image or with all of it.  A blob that the layout has in its full size is kept.
What a failed copy has written stays for the next one.  The directory is locked by flock(2), so of
two writers the later one waits and keeps the image of the first.

Links within the layout are not followed.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import ExitStack, suppress
from pathlib import Path

from layerstore.archive.oci import INDEX_FILE, LAYOUT, LAYOUT_FILE, checked_layout
from layerstore.archive.writer import Write, counted
from layerstore.db.beside import new_file, sweep
from layerstore.errors import Conflict, StoreError
from layerstore.oci.json_values import DOCUMENT_LIMIT
from layerstore.tar.pipeline import write_all

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LayoutWriter:
    """Writes into the layout at `path`; `index` is its index.json, None if it is empty.

    The caller closes it.  Raises Conflict if the directory holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open = ExitStack()
        try:
            self._fd = os.open(path, _DIRECTORY & ~os.O_NOFOLLOW)
            self._open.callback(os.close, self._fd)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            self.index = self._index()
        except OSError as error:
            self.close()
            raise self._failed("", error) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unlock the layout."""
        self._open.close()

    def file(self, name: str, data: bytes) -> None:
        """Write a file; index.json is replaced, and oci-layout stays."""
        if name == LAYOUT_FILE:
            return
        self._write(name, len(data), lambda out: write_all(out, memoryview(data)))

    def blob(self, name: str, size: int, write: Write) -> None:
        """Write a file of `size` bytes, which `write` writes, unless it is there."""
        self._write(name, size, write)

    def end(self) -> None:
        """Nothing is left to do."""

    def _index(self) -> bytes | None:
        layout = self._read(LAYOUT_FILE)
        if layout is not None:
            checked_layout(layout)
            return self._read(INDEX_FILE)
        sweep(self._fd, LAYOUT_FILE)
        if os.listdir(self._fd):
            raise Conflict(
                f"{self._path} exists and is no OCI layout: name a layout, an empty directory, "
                "or one that is to be made"
            )
        # It comes first, so that the next try goes on after a crash.
        self._write(LAYOUT_FILE, len(LAYOUT), lambda out: write_all(out, memoryview(LAYOUT)))
        return None

    def _read(self, name: str) -> bytes | None:
        try:
            with open(os.open(name, _READ, dir_fd=self._fd), "rb") as file:
                data = file.read(DOCUMENT_LIMIT + 1)
        except FileNotFoundError:
            return None
        if len(data) > DOCUMENT_LIMIT:
            raise StoreError(f"{self._path / name} is larger than {DOCUMENT_LIMIT >> 20} MiB")
        return data

    def _write(self, name: str, size: int, write: Write) -> None:
        *folders, last = name.split("/")
        try:
            with ExitStack() as stack:
                folder = self._fd
                for part in folders:
                    folder = _entered(folder, part)
                    stack.callback(os.close, folder)
                if name == INDEX_FILE or not _is_there(folder, last, size):
                    self._replace(folder, last, name, size, write)
        except OSError as error:
            raise self._failed(name, error) from None

    def _replace(self, folder: int, last: str, name: str, size: int, write: Write) -> None:
        with (
            new_file(folder, last, 0o644) as fd,
            open(fd, "wb", buffering=0, closefd=False) as file,
        ):
            counted(name, size, file, write)

    def _failed(self, name: str, error: OSError) -> StoreError:
        return StoreError(f"{self._path / name} cannot be written: {error.strerror}")


def _entered(folder: int, name: str) -> int:
    """Open a directory in `folder`, which is made if it is missing; the caller closes it."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=folder)
    return os.open(name, _DIRECTORY, dir_fd=folder)


def _is_there(folder: int, name: str, size: int) -> bool:
    """Tell whether there is a regular file of that size."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size
