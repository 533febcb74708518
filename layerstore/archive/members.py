"""The files in an archive of images, a tar or a directory, opened by name in any order.

This module alone decides how a file is found by its name.  A link in an archive is
followed within the archive; anything but a regular file counts as absent.
Nothing is unpacked: a member of a tar is read at its offset in the tar.

Threading: members may be read from several threads.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from layerstore.archive.spool import plain_file
from layerstore.errors import InvalidImage, LimitExceeded, NotATar, StoreError, shown
from layerstore.limits import DEFAULT, Limits
from layerstore.oci.json_values import DOCUMENT_LIMIT
from layerstore.tar.compression import Readable
from layerstore.tar.headers import LINK, REGULAR, SYMLINK
from layerstore.tar.reader import TarReader, show
from unionfs.light_typing import TYPE_CHECKING, NamedTuple, Protocol
from unionfs.syscalls.openat2 import open_in_root

if TYPE_CHECKING:
    from typing import BinaryIO

_MOST_LINKS = 40
_MOST_MEMBERS = 100_000


class Section(io.RawIOBase):
    """`size` bytes of the file `fd` from `offset` on; `close` closes `fd` if it is `owned`."""

    def __init__(self, fd: int, offset: int, size: int, *, owned: bool = False) -> None:
        self._fd = fd
        self._owned = owned
        self._at = offset
        self._end = offset + size
        self.size = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")[: self._end - self._at]
        if not view:
            return 0
        done = os.preadv(self._fd, [view], self._at)
        self._at += done
        return done

    def close(self) -> None:
        """Close the file; dropping the last reference does so too."""
        if self._owned and not self.closed:
            os.close(self._fd)
        super().close()


class Members(Protocol):
    """An open archive; `room` is how many bytes of documents may still be read from it."""

    room: int

    def open(self, name: str) -> Section | None:
        """Open the file `name`, None if there is none."""
        ...

    def close(self) -> None: ...


def read_document(members: Members, name: str) -> bytes | None:
    """Return the whole of the document `name`, None if there is none."""
    section = members.open(name)
    if section is None:
        return None
    if section.size > DOCUMENT_LIMIT:
        raise LimitExceeded(
            f"{shown(name)} in the archive is larger than {DOCUMENT_LIMIT >> 20} MiB"
        )
    members.room -= section.size
    if members.room < 0:
        raise LimitExceeded("the documents of the archive are too large together")
    return section.readall()


class _Member(NamedTuple):
    kind: bytes
    offset: int
    size: int
    linkname: bytes


class _FileSource:
    """The bytes of a file for `TarReader`; content is skipped without reading it."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size
        self.at = 0

    def take(self, size: int) -> bytes:
        data = os.pread(self._fd, size, self.at)
        self.at += len(data)
        return data

    def views(self, size: int) -> Iterator[memoryview]:
        yield memoryview(self.take(size))

    def pass_over(self, size: int, raw: Callable[[memoryview], None]) -> int:
        size = min(size, self.size - self.at)
        self.at += size
        return size

    def rest(self) -> Iterator[memoryview]:
        return iter(())


class TarMembers:
    """The members of the uncompressed tar open as `file`; `close` closes it."""

    def __init__(self, file: BinaryIO, limits: Limits = DEFAULT) -> None:
        self.room = limits.documents
        self._file = file
        self._fd = file.fileno()
        self._members: dict[bytes, _Member] = {}
        source = _FileSource(self._fd, os.fstat(self._fd).st_size)
        try:
            self._list(source, limits)
        except BaseException as error:
            file.close()
            if isinstance(error, NotATar) and not self._members:
                raise NotATar(f"this is no tar archive of images: {error}") from None
            raise

    def _list(self, source: _FileSource, limits: Limits) -> None:
        if source.size == 0:
            raise InvalidImage(
                "the archive of images is empty: the command that should write it may have failed"
            )
        for entry in TarReader(source, _ignore, limits):
            if len(self._members) >= _MOST_MEMBERS:
                raise LimitExceeded(f"the archive has more than {_MOST_MEMBERS:,} members")
            if entry.segments is not None:
                raise InvalidImage(f"{entry.shown} in the archive is stored as a sparse file")
            offset = source.at
            self._members[entry.path] = _Member(entry.kind, offset, entry.stored, entry.linkname)

    def open(self, name: str) -> Section | None:
        member = self._resolve(os.fsencode(name))
        if member is None:
            return None
        return Section(self._fd, member.offset, member.size)

    def _resolve(self, path: bytes) -> _Member | None:
        for _ in range(_MOST_LINKS):
            member = self._members.get(posixpath.normpath(path))
            if member is None or member.kind == REGULAR:
                return member
            if member.kind == SYMLINK:
                # From "/" `..` leads to "/".
                path = posixpath.join(b"/", posixpath.dirname(path), member.linkname)
            elif member.kind == LINK:
                path = b"/" + member.linkname
            else:
                return None
            path = posixpath.normpath(path).lstrip(b"/")
        raise InvalidImage(f"{show(path)} in the archive is a link that goes in circles")

    def close(self) -> None:
        self._file.close()


def _ignore(_: bytes | memoryview) -> None:
    """Drop bytes; they are read again if they are needed."""


class DirectoryMembers:
    """The files beneath the directory `path`."""

    def __init__(self, path: Path, limits: Limits = DEFAULT) -> None:
        self.room = limits.documents
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open(self, name: str) -> Section | None:
        # The open must not block if it is a FIFO.
        flags = os.O_RDONLY | os.O_NONBLOCK
        try:
            fd = open_in_root(self._root, os.fsencode(name), flags)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                return None
            raise
        st = os.fstat(fd)
        section = Section(fd, 0, st.st_size, owned=True)
        return section if stat.S_ISREG(st.st_mode) else None

    def close(self) -> None:
        os.close(self._root)


def open_members(source: Path | Readable, spool: Path, limits: Limits = DEFAULT) -> Members:
    """Open an archive of images: a directory, a file, or a stream, compressed or not.

    A stream, or a compressed file, is first written to a file without a
    name in the directory `spool`.  Raises StoreError if it cannot be read,
    InvalidImage if it is not an archive.
    """
    try:
        if isinstance(source, Path):
            if source.is_dir():
                return DirectoryMembers(source, limits)
            with source.open("rb", buffering=0) as stream:
                return TarMembers(plain_file(stream, spool, limits), limits)
        return TarMembers(plain_file(source, spool, limits), limits)
    except OSError as error:
        name = f"the archive {shown(str(source))}" if isinstance(source, Path) else "the archive"
        raise StoreError(f"{name} cannot be read: {error.strerror or error}") from error
