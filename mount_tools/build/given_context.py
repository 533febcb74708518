"""Open the context and the Containerfile of a build, in each form of the command line.

    PATH             a directory, with the Containerfile in it
    -f FILE PATH     a directory, and a file of this machine
    -f - PATH        a directory, and the file on stdin
    -                a tar on stdin, compressed or not, that has the Containerfile in it;
                     or the Containerfile itself on stdin

Source: `docker build` reference, "Build with -", "Tarball contexts".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice

from layerstore.build.context import empty_context, open_context, path_inside, read_containerfile
from layerstore.build.tree import Tree
from layerstore.containerfile.grammar import LARGEST
from layerstore.errors import StoreError, shown
from layerstore.given_file import read_opened
from layerstore.store import Store
from unionfs.light_typing import TYPE_CHECKING, NamedTuple
from unionfs.syscalls.openat2 import open_in_root

if TYPE_CHECKING:
    from typing import BinaryIO

STDIN = "-"
_PIECE = 1 << 20


class Given(NamedTuple):
    """The content of a Containerfile, its name for messages, and the context."""

    content: bytes
    name: str
    context: Tree


@contextmanager
def opened(store: Store, context: str, file: str | None, stdin: BinaryIO) -> Iterator[Given]:
    """Open what the command line names; a tar is unpacked into the store's staging.

    Raises StoreError.
    """
    with ExitStack() as stack:
        if context == STDIN:
            yield stack.enter_context(_from_stdin(store, file, stdin))
        elif file == STDIN:
            tree = stack.enter_context(open_context(context))
            yield Given(stdin.read(LARGEST + 1), STDIN, tree)
        else:
            inside = None if file is None else path_inside(file, context)
            tree = stack.enter_context(open_context(context, file, inside))
            yield Given(*read_containerfile(file, tree, inside), tree)


@contextmanager
def _from_stdin(store: Store, file: str | None, stdin: BinaryIO) -> Iterator[Given]:
    # The usual context is a directory, and these imports take longer than to open it.
    from layerstore.build.adding import is_archive, unpack_tree
    from layerstore.build.copying import Copier
    from layerstore.build.destination import Destination
    from layerstore.layer.metadata import Metadata
    from layerstore.tar.compression import sniff
    from unionfs.syscalls.privilege import is_machine_root

    with ExitStack() as stack:
        own = stack.enter_context(store.staging.to_build())
        with open(own / "stdin", "w+b") as spooled:
            # As much as shows what it is, so that what is neither does not fill the disk.
            pieces = iter(partial(stdin.read, _PIECE), b"")
            spooled.writelines(islice(pieces, LARGEST // _PIECE + 1))
            spooled.seek(0)
            if not is_archive(spooled):
                if file is not None:
                    raise StoreError(
                        "the context on stdin is no tar, so it has no file for -f to name"
                    )
                spooled.seek(0)
                content = spooled.read(LARGEST + 1)  # the parser refuses a larger one
                if sniff(content) is not None:
                    raise StoreError(
                        "the context on stdin is compressed, but no tar can be read from it: it "
                        "may be cut short"
                    )
                yield Given(content, STDIN, stack.enter_context(empty_context()))
                return
            spooled.seek(0, os.SEEK_END)
            spooled.writelines(pieces)
            spooled.seek(0)
            root = own / "context"
            root.mkdir(mode=0o755)
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            unpack_tree(
                spooled, fd, Copier(Destination(fd, Metadata(privileged=is_machine_root())))
            )
        tree = stack.enter_context(open_context(os.fspath(root)))
        if file is None:
            yield Given(*read_containerfile(None, tree), tree)
        else:
            yield Given(_read_inside(tree, file), file, tree)


def _read_inside(tree: Tree, file: str) -> bytes:
    try:
        fd = open_in_root(tree.fd, os.fsencode(file), os.O_RDONLY | os.O_NONBLOCK)
        return read_opened(fd, LARGEST + 1)  # the parser refuses a larger one
    except OSError as error:
        raise StoreError(
            f"failed to read Containerfile: {shown(file)} of the context: {error.strerror}"
        ) from None
