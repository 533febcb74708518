"""What a new directory inherits from the one that it is in, and should not.

Source: acl(5) "Object creation and default ACLs"; inode(7) for sgid;
fs/overlayfs/super.c:ovl_workdir_create(), which does the same.
"""

from __future__ import annotations

import os
import stat

from unionfs.syscalls import xattr

_ACLS = frozenset(("system.posix_acl_access", "system.posix_acl_default"))


def disinherit(fd: int) -> None:
    """Take access control lists and sgid from the open directory `fd`, which is ours.

    They would give others rights to what is made in it, and a group that nobody asked for.
    Raises the OSError of a change that is not allowed.
    """
    for acl in _ACLS.intersection(xattr.list_fd(fd)):
        os.removexattr(fd, acl)
    mode = os.fstat(fd).st_mode
    if mode & stat.S_ISGID:
        os.chmod(fd, stat.S_IMODE(mode) & ~stat.S_ISGID)
