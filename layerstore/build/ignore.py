"""Ignore files: which files of a context a build does not see.

This module alone decides which ignore file is used: `FILE.dockerignore` next to the
Containerfile FILE if it exists, else `.dockerignore` in the context's root.

Source: the docker build reference, ".dockerignore files"; moby/patternmatcher.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from layerstore.build.patterns import Patterns
from layerstore.errors import StoreError, shown
from layerstore.given_file import read_opened
from unionfs.syscalls.openat2 import open_in_root

NAME = ".dockerignore"
_LARGEST = 4 << 20  # bytes of an ignore file


class Ignore:
    """The patterns of an ignore file; without patterns nothing is ignored.

    Paths are relative to the context, with `/` between names and none at the beginning.
    """

    def __init__(self, patterns: Sequence[str] = (), file: str = NAME) -> None:
        self._matcher = Patterns(patterns, file)
        self.empty = self._matcher.empty

    def hides(self, path: str) -> bool:
        """Tell whether the file or directory `path` is ignored."""
        return not self.empty and bool(path) and self._matcher.ignores(path)

    def may_show_beneath(self, directory: str) -> bool:
        """Tell whether something beneath the ignored `directory` may not be ignored."""
        return self._matcher.may_keep_beneath(directory)


def read_ignore(
    context_fd: int, containerfile: str | None = None, inside: str | None = None
) -> Ignore:
    """Return the patterns for the context `context_fd` and the file `containerfile`.

    `containerfile` is a path of this machine, None for one from stdin; `inside` is its path in
    the context, None if it is not there.
    """
    if containerfile is not None:
        beside = f"{containerfile}{NAME}"
        try:
            if inside is None:
                fd = os.open(beside, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            else:
                path = os.fsencode(f"{inside}{NAME}")
                fd = open_in_root(context_fd, path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _unreadable(beside, error) from None
        else:
            return _read(fd, beside)
    try:
        fd = open_in_root(context_fd, os.fsencode(NAME), os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return Ignore()
        raise _unreadable(NAME, error) from None
    return _read(fd, NAME)


def _read(fd: int, name: str) -> Ignore:
    try:
        data = read_opened(fd, _LARGEST + 1)
    except OSError as error:
        raise _unreadable(name, error) from None
    if len(data) > _LARGEST:
        raise StoreError(f"{shown(name)} is larger than {_LARGEST >> 20} MiB")
    text = data.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    return Ignore(text.replace("\r\n", "\n").split("\n"), name)


def _unreadable(name: str, error: OSError) -> StoreError:
    return StoreError(f"{shown(name)} cannot be read: {error.strerror}")
