"""Notices: messages that make the kernel drop parts of its cache, or cache a file's data.

Source: include/uapi/linux/fuse.h enum fuse_notify_code; fs/fuse/inode.c
fuse_reverse_inval_inode(), fs/fuse/dir.c fuse_reverse_inval_entry(), fs/fuse/dev.c
fuse_notify_store().
"""

from __future__ import annotations

from unionfs.types import NodeId
from unionfs.wire import abi


def inode(nodeid: NodeId, offset: int, length: int) -> bytes:
    """Forget the attributes and ACLs of `nodeid`, and `length` bytes of pages from `offset`.

    With `length` 0 these are all pages from `offset`.  A negative `offset` keeps all pages.
    """
    return _notice(abi.NOTIFY_INVAL_INODE, abi.NOTIFY_INVAL_INODE_OUT.pack(nodeid, offset, length))


def entry(parent: NodeId, name: bytes) -> bytes:
    """Forget what `name` in directory `parent` is, and the listing of that directory."""
    head = abi.NOTIFY_INVAL_ENTRY_OUT.pack(parent, len(name), 0)
    return _notice(abi.NOTIFY_INVAL_ENTRY, head + name + b"\0")


def pages(nodeid: NodeId, size: int) -> bytes:
    """Store the `size` bytes that follow, the whole file `nodeid`, in the page cache."""
    return _notice(abi.NOTIFY_STORE, abi.NOTIFY_STORE_OUT.pack(nodeid, 0, size), size)


def _notice(code: int, body: bytes, following: int = 0) -> bytes:
    # No request has the unique 0, so a reply with it is a notice.
    return abi.OUT_HEADER.pack(abi.OUT_HEADER.size + len(body) + following, code, 0) + body
