"""The user of a container's command, looked up in the users and groups of the image.

Decided here and only here: what `--user` and the image's User mean.

Source: docker `--user`, CVE-2022-36109.
"""

from __future__ import annotations

from layerstore.errors import StoreError, shown
from layerstore.images.accounts import groups, id_number, is_number, users
from unionfs.light_typing import NamedTuple


class Identity(NamedTuple):
    """The ids of a process, and what $HOME is for it.

    `gid` is one of the `groups` too: a program with the set-group-ID bit, which any user can
    make, would else take its process out of that group, and a file may be closed to a group.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def identity(root_fd: int, user: str) -> Identity:
    """Return who `user` is in the image at `root_fd`: `name|uid[:group|gid]`, "" for root."""
    name, _, group = user.partition(":")
    name = name or "0"
    accounts = users(root_fd)
    account = next((row for row in accounts if row[0] == name), None)
    if account is None and is_number(name):
        account = next((row for row in accounts if row[2] == name), None)
    if account is not None:
        uid, gid, home = id_number(account[2]), id_number(account[3]), account[5] or "/"
    elif is_number(name):
        uid, gid, home = id_number(name), 0, "/"
    else:
        raise StoreError(f"unable to find user {shown(name)}: no matching entries in passwd file")
    rows = groups(root_fd)
    if group:
        found = next((row for row in rows if row[0] == group), None)
        if found is None and not is_number(group):
            raise StoreError(
                f"unable to find group {shown(group)}: no matching entries in group file"
            )
        gid = id_number(found[2] if found else group)
        return Identity(uid, gid, (gid,), home)
    own = account[0] if account is not None else None
    members = [id_number(row[2]) for row in rows if own and own in row[3].split(",")]
    return Identity(uid, gid, tuple(dict.fromkeys((gid, *members))), home)
