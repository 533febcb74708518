"""Streams for archives: a file that appears only when it is complete, or stdout.

Source: docker/cli `cli/command/utils.go` (CopyToFile, ValidateOutputPath),
`cli/command/image/save.go`.
Differs from docker: a device or a FIFO as FILE is accepted, and a file is synced.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layerstore.db.beside import new_file
from layerstore.db.durability import open_directory
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.output.standard_output import archive_output, file_output
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_MOST_LINKS = 40  # as path_resolution(7)


@contextmanager
def opened(path: str | None, failed: str) -> Iterator[BinaryIO]:
    """Yield a stream that writes to `path`, or to stdout if there is none.

    A file gets its name at the end, once it is synced; if the block fails, or the process is
    killed, an old file at `path` stays.  Once the block has ended the file is on disk: the images
    in it may be removed from the store.  `failed` begins the message for an invalid path.  Raises
    WrongWords and StoreError.
    """
    if not path:
        stream = archive_output("Use the -o flag or redirect")
        yield stream
        stream.flush()
        return
    _refuse_links_of_others(path)
    target = os.path.realpath(path)
    directory = os.path.dirname(target)
    if not os.path.isdir(directory):
        shown = os.path.dirname(path) or "."
        raise WrongWords(f'{failed}: invalid output path: directory "{shown}" does not exist', 1)
    if os.path.isdir(target):
        raise WrongWords(f'{failed}: invalid output path: "{path}" is a directory', 1)
    if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
        with file_output(os.open(target, os.O_WRONLY | os.O_CLOEXEC), path) as stream:
            yield stream
        return
    with (
        open_directory(Path(directory)) as parent,
        new_file(parent.fd, os.path.basename(target), 0o600) as fd,
        file_output(os.dup(fd), path) as stream,
    ):
        yield stream


def _refuse_links_of_others(path: str) -> None:
    """Raise WrongWords if a link on the way to `path` is another user's, in a directory like /tmp.

    The kernel does not follow such a link if fs.protected_symlinks says so, but realpath(3)
    reads links by itself, without that rule.
    """
    here = os.path.abspath(path)
    for _ in range(_MOST_LINKS):
        link = next(filter(os.path.islink, _beginnings(here)), None)
        if link is None:
            return
        above, own = os.stat(os.path.dirname(link)), os.lstat(link)
        of_others = own.st_uid not in (os.geteuid(), above.st_uid)
        if of_others and above.st_mode & stat.S_ISVTX and above.st_mode & stat.S_IWOTH:
            raise WrongWords(f'"{path}" leads through a link of another user: {link}', 1)
        rest = here[len(link) :].lstrip("/")
        here = os.path.join(os.path.dirname(link), os.readlink(link), rest)


def _beginnings(path: str) -> Iterator[str]:
    """Yield `path` up to each of its names, the shortest first."""
    parts = path.rstrip("/").split("/")
    yield from ("/".join(parts[:count]) for count in range(2, len(parts) + 1))


@contextmanager
def source(path: str | None, empty: str) -> Iterator[BinaryIO]:
    """Yield a stream that reads `path`, or stdin if there is none.

    `empty` is the message if stdin is a terminal.  Raises WrongWords.
    """
    if not path:
        if sys.stdin.isatty():
            raise WrongWords(empty, 1)
        yield sys.stdin.buffer
        return
    try:
        stream = open(path, "rb")  # noqa: SIM115 - closed below; only opening it is in the try
    except OSError as error:
        # docker's message, which is Go's for a file that cannot be opened.
        raise WrongWords(f"open {path}: {(error.strerror or '').lower()}", 1) from None
    with stream:
        yield stream
