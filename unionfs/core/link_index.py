"""The index: by which the hard links of a lower file stay one file after copy_up.

`<workdir>/index/<hex of the origin mark>` is a hard link of the upper inode, so
any other lower name of the same inode leads to it, also after a remount.
`overlay.nlink` on it says how the union's count of links differs from the
upper inode's own.

Source: overlayfs.rst "Index"; fs/overlayfs/namei.c:ovl_get_index_name_fh(),
inode.c:ovl_get_nlink().
"""

from __future__ import annotations

import logging
import os
import re
import stat

from unionfs.core.layer import Fd
from unionfs.core.whiteout import is_whiteout

log = logging.getLogger(__name__)

_NLINK = re.compile(rb"U([+-]\d{1,9})")


class LinkIndex:
    """An open index directory, its names remembered.

    `used` are the entries by which a name is reached that the upper may not
    have; a freeze cannot do with any.
    """

    def __init__(self, fd: Fd) -> None:
        self.fd = fd
        self._names = set(os.listdir(b"/proc/self/fd/%d" % fd))
        self.used = set(self._names)

    def __bool__(self) -> bool:
        return bool(self._names)

    def find(self, origin: bytes) -> tuple[bytes, os.stat_result] | None:
        """Return the entry of the lower inode `origin` and its attributes, if it was copied up."""
        name = entry_name(origin)
        if name not in self._names:
            return None
        try:
            st = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            self._names.discard(name)
            return None
        if stat.S_ISDIR(st.st_mode) or is_whiteout(st):
            return None
        return name, st

    def add(self, name: bytes) -> None:
        """Note that the entry `name` is there now."""
        self._names.add(name)
        self.used.add(name)

    def remove(self, name: bytes) -> bool:
        """Remove the entry `name` of a file with no name left; tell whether it was there."""
        if name not in self._names:
            return False
        self._names.discard(name)
        self.used.discard(name)
        os.unlink(name, dir_fd=self.fd)
        return True


def entry_name(origin: bytes) -> bytes:
    """Return the name of the index entry of a lower inode with that origin mark."""
    return origin.hex().encode()


def encode_delta(delta: int) -> bytes:
    """Return the `overlay.nlink` value for the union having `delta` more links than the upper."""
    return b"U%+d" % delta


def decode_delta(value: bytes, upper_nlink: int) -> int:
    """Return what `overlay.nlink` says to add to `upper_nlink`; 0 where it makes no sense.

    The form relative to the lower inode (`L`) is written by overlayfs only
    until its copy_up is complete.
    """
    match = _NLINK.fullmatch(value.rstrip(b"\0"))
    if match is None or upper_nlink + int(match[1]) < 1:
        log.warning("the mark overlay.nlink has the value %r, which is ignored", value)
        return 0
    return int(match[1])
