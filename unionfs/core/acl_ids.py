"""The ids of users and groups that an access control list names.

A list has them as the filesystem shows or stores them, and the kernel judges who may open a
file by those that the union shows.  So they are mapped as the owner of the file is.

Source: acl(5); struct posix_acl_xattr_entry of linux/posix_acl_xattr.h;
fs/overlayfs/inode.c:ovl_idmap_posix_acl().
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

ACCESS_ACL = "system.posix_acl_access"
DEFAULT_ACL = "system.posix_acl_default"
ACLS = frozenset((ACCESS_ACL, DEFAULT_ACL))
ACLS_ENCODED = frozenset(name.encode() for name in ACLS)

_HEADER_SIZE = 4  # the version, which setxattr(2) checks
_ENTRY = Struct("<HHI")  # tag, permissions, id
_USER, _GROUP = 0x02, 0x08

Map = Callable[[int], int]


def map_acl(value: bytes, uid: Map, gid: Map) -> bytes:
    """Return the list `value` with its ids mapped; a malformed one as it is."""
    if (len(value) - _HEADER_SIZE) % _ENTRY.size:
        return value
    mapped = bytearray(value)
    for at in range(_HEADER_SIZE, len(value), _ENTRY.size):
        tag, permissions, number = _ENTRY.unpack_from(value, at)
        if tag == _USER:
            _ENTRY.pack_into(mapped, at, tag, permissions, uid(number))
        elif tag == _GROUP:
            _ENTRY.pack_into(mapped, at, tag, permissions, gid(number))
    return bytes(mapped)
