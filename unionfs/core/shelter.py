"""Upper files that lost their last name while they are open, more than can be kept by an fd.

Such a file gets a name in the staging directory, by which it is reached as any other file,
and loses it when it is closed for good.  What a crash leaves there is swept.
"""

from __future__ import annotations

import os

from unionfs.core.inode import File
from unionfs.core.real_file import with_nlink
from unionfs.core.state import State, Writable


def make_shelter(writable: Writable, node: File) -> bytes:
    """Return a second name for `node`, in the staging directory."""
    name = writable.work.new_name()
    fd = node.real.fd()
    os.link(node.rname, name, src_dir_fd=fd, dst_dir_fd=writable.work.fd, follow_symlinks=False)
    return name


def enter_shelter(writable: Writable, node: File, name: bytes) -> None:
    """Note that `name` in the staging directory is the only name that `node` has left."""
    writable.sheltered[node] = name
    node.real, node.rname = writable.shelter, name
    node.nlink_delta -= 1
    node.unlinked = True


def leave_shelter(state: State, node: File) -> None:
    """Remove the sheltered name of `node`, which was closed, unless it is still open elsewhere."""
    writable = state.writable
    if writable is None or node not in writable.sheltered:
        return
    with state.table.lock:
        if node.opened:
            return
        name = writable.sheltered.pop(node, None)
    if name is None:
        return
    fd = writable.work.fd
    node.last_stat = with_nlink(os.stat(name, dir_fd=fd, follow_symlinks=False), -1)
    node.nlink_delta += 1
    os.unlink(name, dir_fd=fd)
