"""Who a container runs as: users and groups of the image, read from the image.

Decided here and only here: how `--user` and the image's User are understood.
The image's own /etc/passwd and /etc/group say who there is, opened beneath its
root; nothing of the host is asked, and no library of the image is loaded.

Source: docker `--user`; passwd(5), group(5); CVE-2024-9676 for what a hostile
image makes of /etc/passwd.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from layerstore.errors import StoreError
from unionfs.syscalls.openat2 import open_in_root

_LARGEST = 1 << 20  # bytes of a passwd or group file
_HIGHEST = (1 << 31) - 1


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
    if account is None and name.isdecimal():
        account = next((row for row in accounts if row[2] == name), None)
    if account is not None:
        uid, gid, home = _number(account[2]), _number(account[3]), account[5] or "/"
    elif name.isdecimal():
        uid, gid, home = _number(name), 0, "/"
    else:
        raise StoreError(f"unable to find user {name}: no matching entries in passwd file")
    rows = _rows(root_fd, b"etc/group", 4)
    if group:
        found = next((row for row in rows if row[0] == group), None)
        if found is None and not group.isdecimal():
            raise StoreError(f"unable to find group {group}: no matching entries in group file")
        return Identity(uid, _number(found[2] if found else group), (), home)
    own = account[0] if account is not None else None
    groups = tuple(_number(row[2]) for row in rows if own and own in row[3].split(","))
    return Identity(uid, gid, groups, home)


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 10 or int(text) > _HIGHEST:
        raise StoreError(f"uids and gids must be in range 0-{_HIGHEST}")
    return int(text)


def _rows(root_fd: int, path: bytes, fields: int) -> list[list[str]]:
    """Return the lines of a file of the image as lists of fields; none of one that is odd."""
    try:
        fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    with open(fd, "rb") as file:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode) or st.st_size > _LARGEST:
            return []
        text = file.read(_LARGEST).decode(errors="surrogateescape")
    rows = [line.split(":") for line in text.splitlines()]
    return [row for row in rows if len(row) >= fields and row[2].isdecimal()]
