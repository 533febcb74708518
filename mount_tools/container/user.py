"""Which user a container runs as: users and groups of the image, read from the image.

Decided here and only here: what `--user` and the image's User mean.  The users are those of
the image's own /etc/passwd and /etc/group, which are opened beneath its root; the host's are
not used, and no library of the image is loaded.

Source: docker `--user`; passwd(5), group(5); CVE-2024-9676 for what a hostile
image makes of /etc/passwd.
"""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

from layerstore.errors import StoreError
from unionfs.syscalls.openat2 import open_in_root

_LARGEST = 1 << 20  # bytes of a passwd or group file
_HIGHEST = (1 << 31) - 1
# str.isdecimal() and int() know the digits of every script.
_DIGITS = re.compile(r"[0-9]+")


class Identity(NamedTuple):
    """The ids of a process, and what $HOME is for it."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def identity(root_fd: int, user: str) -> Identity:
    """Return who `user` is in the image at `root_fd`: `name|uid[:group|gid]`, "" for root."""
    name, _, group = user.partition(":")
    name = name or "0"
    accounts = _rows(root_fd, b"etc/passwd", 7)
    account = next((row for row in accounts if row[0] == name), None)
    if account is None and _DIGITS.fullmatch(name):
        account = next((row for row in accounts if row[2] == name), None)
    if account is not None:
        uid, gid, home = _number(account[2]), _number(account[3]), account[5] or "/"
    elif _DIGITS.fullmatch(name):
        uid, gid, home = _number(name), 0, "/"
    else:
        raise StoreError(f"unable to find user {name}: no matching entries in passwd file")
    rows = _rows(root_fd, b"etc/group", 4)
    if group:
        found = next((row for row in rows if row[0] == group), None)
        if found is None and not _DIGITS.fullmatch(group):
            raise StoreError(f"unable to find group {group}: no matching entries in group file")
        return Identity(uid, _number(found[2] if found else group), (), home)
    own = account[0] if account is not None else None
    groups = tuple(_number(row[2]) for row in rows if own and own in row[3].split(","))
    return Identity(uid, gid, groups, home)


def _number(text: str) -> int:
    if not _DIGITS.fullmatch(text) or len(text) > 10 or int(text) > _HIGHEST:
        raise StoreError(f"uids and gids must be in range 0-{_HIGHEST}")
    return int(text)


def _rows(root_fd: int, path: bytes, fields: int) -> list[list[str]]:
    """Return the lines of a file of the image as lists of fields.

    There are none in a file that is missing, too large, or no regular file.
    """
    text = _content(root_fd, path).decode(errors="surrogateescape")
    # Not splitlines(), for which many characters end a line.
    rows = [line.split(":") for line in text.split("\n")]
    return [row for row in rows if len(row) >= fields and _DIGITS.fullmatch(row[2])]


def _content(root_fd: int, path: bytes) -> bytes:
    try:
        # O_NONBLOCK: the open of a FIFO returns, and of a device of the image fails (nodev).
        fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return b""
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        content = file.read(_LARGEST + 1)  # it may grow while it is read
    return content if len(content) <= _LARGEST else b""
