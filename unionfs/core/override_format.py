"""The attribute that holds owner, mode and type of a file, where the file itself cannot have them.

Decided here and only here: the names of the attribute, and what its value means.

The value is `UID:GID:MODE:TYPE`, in decimal but for the octal MODE.  TYPE is `file`, `dir`,
`symlink`, `pipe`, `socket`, `block-MAJOR-MINOR` or `char-MAJOR-MINOR`.  Without TYPE it is
that of the real file, and MODE may have bits of a type, which mean nothing.

Source: containers/storage pkg/idtools/idtools.go:FormatContainersOverrideXattrDevice(),
parseOverrideXattr(); fuse-overlayfs utils.c:override_mode(),
main.c:write_permission_xattr(), encode_xattr_name().
"""

from __future__ import annotations

import os
import re
import stat

from unionfs.light_typing import NamedTuple

CONTAINERS = b"user.containers.override_stat"
LEGACY = b"user.fuseoverlayfs.override_stat"
PRIVILEGED = b"security.fuseoverlayfs.override_stat"

# A security.* attribute is stored under this prefix, where the layer uses CONTAINERS.
ENCODED_PREFIX = b"user.containers.override_"

_MAX_ID = 2**32 - 2

# After the numbers of a device there may be options that have not been invented yet.
_VALUE = re.compile(
    rb"([0-9]{1,10}):([0-9]{1,10}):([0-7]{1,7})"
    rb"(?::(?:(file|dir|symlink|pipe|socket)|(block|char)[-:]([0-9]{1,10})[-:]([0-9]{1,10})(?:-.*)?))?"
)

_KINDS = {
    b"file": stat.S_IFREG,
    b"dir": stat.S_IFDIR,
    b"symlink": stat.S_IFLNK,
    b"pipe": stat.S_IFIFO,
    b"socket": stat.S_IFSOCK,
    b"block": stat.S_IFBLK,
    b"char": stat.S_IFCHR,
}
_WORDS = {kind: word for word, kind in _KINDS.items()}


class Override(NamedTuple):
    """Owner, mode and type of a file, recorded because the file on disk cannot have them."""

    uid: int
    gid: int
    mode: int  # with its type, 0 for that of the file itself
    rdev: int = 0

    def encode(self) -> bytes:
        """Return the attribute's value."""
        kind = stat.S_IFMT(self.mode)
        word = _WORDS[kind]
        if kind in (stat.S_IFBLK, stat.S_IFCHR):
            word += b"-%d-%d" % (os.major(self.rdev), os.minor(self.rdev))
        return b"%d:%d:%04o:%b" % (self.uid, self.gid, stat.S_IMODE(self.mode), word)

    @classmethod
    def decode(cls, value: bytes) -> Override | None:
        """Return the content of the attribute's value, None if it is invalid."""
        found = _VALUE.fullmatch(value)
        if found is None:
            return None
        uid, gid, mode = int(found[1]), int(found[2]), stat.S_IMODE(int(found[3], 8))
        if max(uid, gid) > _MAX_ID:
            return None
        if found[5] is None:
            return cls(uid, gid, mode | (_KINDS[found[4]] if found[4] else 0))
        try:
            rdev = os.makedev(int(found[6]), int(found[7]))
        except (OverflowError, ValueError):
            return None
        return cls(uid, gid, mode | _KINDS[found[5]], rdev)
