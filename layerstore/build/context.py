"""The context of a build: a directory of this machine, or a tar that is unpacked first.

This module alone decides what may be a context.  The context is opened once, and every file
in it is opened beneath that descriptor.

Source: `docker build` reference, "PATH | URL | -".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from layerstore.build.ignore import read_ignore
from layerstore.build.tree import Tree
from layerstore.containerfile.grammar import LARGEST
from layerstore.db.beside import temporary_directory
from layerstore.errors import NotFound, StoreError, shown
from layerstore.given_file import read_opened
from unionfs.syscalls.openat2 import open_in_root

DEFAULT_NAMES = ("Containerfile", "Dockerfile")
_REMOTE = (
    *(f"{scheme}://" for scheme in ("http", "https", "git", "ssh", "oci-layout", "docker-image")),
    *("git@", "github.com/"),
)


def refuse_remote(context: str) -> None:
    """Raise StoreError if `context` is a URL, because contexts are not fetched."""
    if context.lower().startswith(_REMOTE):
        raise StoreError(
            f"{shown(context)} is a URL, and contexts are not fetched: clone or download it, "
            "and give the directory"
        )


def path_inside(path: str, context: str) -> str | None:
    """Return the path in the directory `context` of the file `path`, None if it is outside.

    Links in the context do not count: it may be a stranger's.
    """
    file = os.path.abspath(path)
    for root in (os.path.abspath(context), os.path.realpath(context)):
        if file.startswith(root.rstrip("/") + "/"):
            return os.path.relpath(file, root)
    return None


@contextmanager
def open_context(
    path: str, containerfile: str | None = None, inside: str | None = None
) -> Iterator[Tree]:
    """Open the directory `path` as a context, without the files that its ignore file names.

    `containerfile` is the path of the Containerfile, which may have an ignore file next to
    it; None if it comes from stdin.  `inside` is its path in the context, None if it is not
    there.  Raises StoreError.
    """
    refuse_remote(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f'unable to prepare context: path "{shown(path)}" not found') from None
    except NotADirectoryError:
        raise StoreError(
            f"unable to prepare context: {shown(path)} is not a directory: give the directory, "
            "and the file with -f"
        ) from None
    except OSError as error:
        raise StoreError(
            f"unable to prepare context: {shown(path)} cannot be opened: {error.strerror}"
        ) from None
    try:
        yield Tree(fd, read_ignore(fd, containerfile, inside))
    finally:
        os.close(fd)


@contextmanager
def empty_context() -> Iterator[Tree]:
    """Open a context without files, as for a Containerfile from stdin."""
    with temporary_directory() as path, open_context(os.fspath(path)) as tree:
        yield tree


def read_containerfile(
    path: str | None, context: Tree | None, inside: str | None = None
) -> tuple[bytes, str]:
    """Return the content of a Containerfile, and its name for messages.

    `path` is a path of this machine, and `inside` the same file's path in the context, None if
    it is not there: a link in the context of a stranger leads to no other file.  By default the
    Containerfile is the first of `DEFAULT_NAMES` in the root of `context`; an ignore file does
    not hide it.  Raises StoreError.
    """
    if path is not None:
        try:
            if inside is None or context is None:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            else:
                fd = open_in_root(context.fd, os.fsencode(inside), os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise StoreError(
                f"failed to read Containerfile: {shown(path)}: {error.strerror}"
            ) from None
        return _read(fd, path), path
    for name in DEFAULT_NAMES:
        try:
            assert context is not None, "a build without a context names its file"
            fd = open_in_root(context.fd, os.fsencode(name), os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(f"failed to read {name}: {error.strerror}") from None
        return _read(fd, name), name
    raise NotFound(
        f"failed to read Containerfile: the context has no {' and no '.join(DEFAULT_NAMES)}: "
        "name the file with -f"
    )


def _read(fd: int, name: str) -> bytes:
    try:
        return read_opened(fd, LARGEST + 1)  # the parser refuses a larger one
    except OSError as error:
        raise StoreError(f"failed to read {shown(name)}: {error.strerror}") from None
