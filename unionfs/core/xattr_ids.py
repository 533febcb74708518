"""The ids in extended attributes: of access control lists and of file capabilities.

A list names users and groups.  A capability is valid for the user namespaces whose root is
the user that it names, or 0 if it names none.  The filesystem stores them with its own ids, and
the kernel judges by the ids that the union shows.  So they are mapped in the same way as the
owner of the file.  Otherwise programs of a layer would be privileged outside of the container.

Source: acl(5); struct posix_acl_xattr_entry of linux/posix_acl_xattr.h; capabilities(7) "File
capability extended attribute versioning"; fs/overlayfs/inode.c:ovl_idmap_posix_acl();
security/commoncap.c:cap_inode_getsecurity().
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

ACCESS_ACL = "system.posix_acl_access"
DEFAULT_ACL = "system.posix_acl_default"
CAPABILITY = "security.capability"

ACLS = frozenset((ACCESS_ACL, DEFAULT_ACL))
WITH_IDS = ACLS | {CAPABILITY}

_HEADER_SIZE = 4  # the version, which setxattr(2) checks
_ENTRY = Struct("<HHI")  # tag, permissions, id
_USER, _GROUP = 0x02, 0x08

# magic, four words, and the user in version 3; linux/capability.h
_VERSION_2, _SIZE_2 = 0x02000000, 20
_VERSION_3, _SIZE_3 = 0x03000000, 24
_WORD = Struct("<I")
_VERSION_MASK = 0xFF000000

Map = Callable[[int], int]


def shown(name: str, value: bytes, uid: Map, gid: Map) -> bytes:
    """Return the `value` to show for the attribute `name` that is stored."""
    return _map_capability(value, uid) if name == CAPABILITY else map_acl(value, uid, gid)


def stored(name: str, value: bytes, uid: Map, gid: Map) -> bytes:
    """Return the `value` to store for the attribute `name` that is set.

    A capability that names no user is not mapped: a program that is privileged outside of the
    container sets it, to unpack a layer.
    """
    if name != CAPABILITY:
        return map_acl(value, uid, gid)
    return value if len(value) == _SIZE_2 else _map_capability(value, uid)


def map_acl(value: bytes, uid: Map, gid: Map) -> bytes:
    """Return the access control list `value` with its ids mapped; a malformed one as it is."""
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


def _map_capability(value: bytes, uid: Map) -> bytes:
    """Return the capability `value` with its user mapped; a malformed one as it is."""
    magic = _WORD.unpack_from(value)[0] if len(value) >= _WORD.size else 0
    if len(value) == _SIZE_2 and magic & _VERSION_MASK == _VERSION_2:
        root = uid(0)
    elif len(value) == _SIZE_3 and magic & _VERSION_MASK == _VERSION_3:
        root = uid(_WORD.unpack_from(value, _SIZE_2)[0])
    else:
        return value
    flags, words = magic & ~_VERSION_MASK, value[_WORD.size : _SIZE_2]
    if root == 0:
        return _WORD.pack(_VERSION_2 | flags) + words
    return _WORD.pack(_VERSION_3 | flags) + words + _WORD.pack(root)
