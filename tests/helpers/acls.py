"""Access control lists, as the kernel takes them; see linux/posix_acl_xattr.h."""

from __future__ import annotations

from struct import pack

ACCESS_ACL, DEFAULT_ACL = "system.posix_acl_access", "system.posix_acl_default"

_ENTRIES = ((0x01, 7, -1), (0x02, 7, 1234), (0x04, 7, -1), (0x10, 7, -1), (0x20, 7, -1))

ACL_OF_1234 = pack("<I", 2) + b"".join(pack("<HHi", *entry) for entry in _ENTRIES)
"""The owner, the user 1234, the group, the mask and all others may do everything."""
