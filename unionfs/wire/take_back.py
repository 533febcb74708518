"""Undo a request that was already answered with EINTR, so that the kernel gets no other reply.

The references and handles that the reply would have given to the kernel are dropped again.
What the request changed stays changed, as with overlayfs, and the kernel is told to forget
what it has cached of it.

Source: fs/fuse/dev.c:request_wait_answer(), which waits for an answer although the caller
is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct

from unionfs.types import Fh, NodeId
from unionfs.vfs import Notifier
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.files import Files
from unionfs.wire.request import Request

_NODEID = Struct("=Q")
_FH = Struct("=Q")
_FLAGS = Struct("=I")

# Those whose reply begins with an entry, and so counts a reference.
_ENTRIES = frozenset(
    {
        Opcode.LOOKUP,
        Opcode.MKNOD,
        Opcode.MKDIR,
        Opcode.SYMLINK,
        Opcode.LINK,
        Opcode.CREATE,
        Opcode.TMPFILE,
    }
)
_OPENS = frozenset({Opcode.OPEN, Opcode.CREATE, Opcode.TMPFILE})

# Those that change names in the directory they are sent to.
_NAMES = (_ENTRIES - {Opcode.LOOKUP, Opcode.TMPFILE}) | {Opcode.UNLINK, Opcode.RMDIR}
_MOVES = frozenset({Opcode.RENAME, Opcode.RENAME2})

# Those that change the inode they are sent to.
_CHANGES = frozenset(
    {
        Opcode.SETATTR,
        Opcode.SETXATTR,
        Opcode.REMOVEXATTR,
        Opcode.WRITE,
        Opcode.FALLOCATE,
        Opcode.IOCTL,
    }
)


def take_back(
    files: Files,
    forget: Callable[[NodeId, int], None],
    request: Request,
    size: int,
    notifier: Notifier,
) -> None:
    """Undo `request`, whose reply has a body of `size` bytes."""
    opcode, made, at = request.opcode, NodeId(0), request.body
    if size and opcode in _ENTRIES:
        (made,) = _NODEID.unpack_from(request.out, at)
        at += abi.ENTRY_SIZE
    if size and opcode in _OPENS:
        (flags,) = _FLAGS.unpack_from(request.args, request.at)
        (fh,) = _FH.unpack_from(request.out, at)
        files.close_handle(Fh(fh), flags, made or request.nodeid)
    if made:
        forget(made, 1)
    if opcode == Opcode.READDIRPLUS:
        for nodeid in _listed(request, size):
            forget(nodeid, 1)
    for parent, name in _changed_names(request):
        notifier.forget_name(parent, name)
        notifier.forget_attributes(parent)
    if opcode in _CHANGES:
        notifier.forget_inode(request.nodeid)


def _listed(request: Request, size: int) -> Iterator[NodeId]:
    """Yield the nodeids that a listing of `size` bytes counts references of."""
    at, end = request.body, request.body + size
    while at < end:
        (nodeid,) = _NODEID.unpack_from(request.out, at)
        if nodeid:
            yield nodeid
        _, _, length, _ = abi.DIRENT.unpack_from(request.out, at + abi.ENTRY_SIZE)
        at += abi.DIRENTPLUS_SIZE + length + 7 & ~7


def _changed_names(request: Request) -> Iterator[tuple[NodeId, bytes]]:
    """Yield each directory and the name in it that the request may have changed."""
    opcode = request.opcode
    if opcode in _NAMES:
        yield request.nodeid, request.names()[0]
    elif opcode in _MOVES:
        old, new = request.names()[:2]
        yield request.nodeid, old
        (new_parent,) = _NODEID.unpack_from(request.args, request.at)
        yield new_parent, new
