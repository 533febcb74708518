"""Extended attributes of a name beneath a directory fd, never following a link.

Linux has no such call before 6.13, so the name is reached through
/proc/self/fd, whose own link leads to exactly the open directory.
"""

from __future__ import annotations

import errno
import os


def at(dir_fd: int, name: bytes) -> bytes:
    """Return a path that leads to `name` beneath `dir_fd` as long as that is open."""
    return b"/proc/self/fd/%d/%b" % (dir_fd, name)


def list_at(dir_fd: int, name: bytes) -> list[str]:
    """Return the attribute names of `name`, none where its filesystem has no attributes."""
    try:
        return os.listxattr(at(dir_fd, name), follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise


def list_fd(fd: int) -> list[str]:
    """Return the attribute names of the open file `fd`, none where there are no attributes.

    Works for an O_PATH fd too.
    """
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        if error.errno != errno.EBADF:
            raise
        return os.listxattr(b"/proc/self/fd/%d" % fd)


def get_fd(fd: int, name: bytes) -> bytes | None:
    """Return the value of attribute `name` of the open file `fd`, None where it has none.

    Works for an O_PATH fd too.
    """
    try:
        return os.getxattr(fd, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        if error.errno != errno.EBADF:
            raise
    try:
        return os.getxattr(b"/proc/self/fd/%d" % fd, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise


def get_at(dir_fd: int, name: bytes, attribute: bytes) -> bytes | None:
    """Return the value of `attribute` of `name`, None where it has none."""
    try:
        return os.getxattr(at(dir_fd, name), attribute, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise
