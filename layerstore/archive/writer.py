"""Write an archive of images, as a tar or as a directory.

This module alone decides how a file of an archive is written.  A directory is built under
another name next to its final path, and renamed when it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from layerstore.db.beside import NewDirectory
from layerstore.db.durability import open_directory
from layerstore.errors import Conflict, StoreError
from layerstore.tar.headers import DIRECTORY, END, REGULAR, NewEntry, format_entry, padding
from layerstore.tar.pipeline import Writable, write_all
from unionfs.light_typing import Protocol

Write = Callable[[Writable], None]


class ArchiveWriter(Protocol):
    """Writes the files of an archive.  A name that was written before is skipped."""

    def file(self, name: str, data: bytes) -> None:
        """Write a file with the content `data`."""
        ...

    def blob(self, name: str, size: int, write: Write) -> None:
        """Write a file of `size` bytes, which `write` writes."""
        ...

    def end(self) -> None:
        """Finish the archive."""
        ...


class _Counted:
    """Counts what is written to `out`."""

    def __init__(self, out: Writable) -> None:
        self._out = out
        self.count = 0

    def write(self, data: memoryview) -> int | None:
        done = self._out.write(data)
        self.count += done or 0
        return done


def counted(name: str, size: int, out: Writable, write: Write) -> None:
    """Let `write` write to `out`; raises StoreError unless it writes `size` bytes."""
    counter = _Counted(out)
    write(counter)
    if counter.count != size:
        raise StoreError(f"{name} came to {counter.count} bytes; {size} were announced")


class TarArchiveWriter:
    """Writes a tar to `out`; the same images give the same bytes."""

    def __init__(self, out: Writable) -> None:
        self._out = out
        self._written: set[str] = set()

    def file(self, name: str, data: bytes) -> None:
        self.blob(name, len(data), lambda out: write_all(out, memoryview(data)))

    def blob(self, name: str, size: int, write: Write) -> None:
        if name in self._written:
            return
        self._folders(name)
        self._written.add(name)
        self._write(format_entry(NewEntry(name.encode(), REGULAR, 0o644, size=size)))
        counted(name, size, self._out, write)
        self._write(END[: padding(size)])

    def end(self) -> None:
        self._write(END + END)

    def _folders(self, name: str) -> None:
        parts = name.split("/")[:-1]
        for depth in range(len(parts)):
            folder = "/".join(parts[: depth + 1]) + "/"
            if folder not in self._written:
                self._written.add(folder)
                self._write(format_entry(NewEntry(folder.encode(), DIRECTORY, 0o755)))

    def _write(self, data: bytes) -> None:
        write_all(self._out, memoryview(data))


class DirectoryWriter:
    """Writes the directory `path`, which exists only after `end`, synced; the caller closes it."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise Conflict(f"{path} exists already: name a directory that is to be made")
        self._path = path
        try:
            self._new = NewDirectory(path)
        except OSError as error:
            raise StoreError(f"{path} cannot be made: {error.strerror}") from None

    def file(self, name: str, data: bytes) -> None:
        self.blob(name, len(data), lambda out: write_all(out, memoryview(data)))

    def blob(self, name: str, size: int, write: Write) -> None:
        target = self._new.path / name
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb", buffering=0) as file:
            counted(name, size, file, write)
            os.fsync(file.fileno())

    def end(self) -> None:
        for folder, _, _ in os.walk(self._new.path):
            with open_directory(Path(folder)) as directory:
                os.fsync(directory.fd)
        os.fchmod(self._new.fd, 0o755)
        os.rename(self._new.path, self._path)
        with open_directory(self._path.parent) as parent:
            os.fsync(parent.fd)

    def close(self) -> None:
        """Remove what was written, unless it was ended."""
        self._new.close()
