"""What may be believed of the attributes that record an owner, a mode or a type.

Decided here and only here.  An ordinary user's layers have in `user.containers.override_*` what
their files cannot have (see `metadata`).  These are attributes of users: a process in a
container can write them, on each file that it may write to.

- Root's layers need no records, so nothing is believed there.
- If the user namespace has one user, that is who wrote them, and everything is believed.
- If it has more, the record of one could make a set-user-ID program of another.  A record is
  believed only where it says what the file could not have: a mode whose owner has fewer
  rights than on disk, an owner that is not mapped, a device in place of an empty file.

Source: user_namespaces(7); xattr(7).
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache

from unionfs import Override
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.privilege import is_machine_root

OVERRIDE_PREFIX = b"user.containers.override_"
OVERRIDE_STAT = OVERRIDE_PREFIX + b"stat"

# The fields of a stat result that are not among those it has as a sequence.
_BEYOND = ("st_atime_ns", "st_mtime_ns", "st_ctime_ns", "st_blksize", "st_blocks")

_SECURITY = b"security."
_CAPABILITY = b"security.capability"


def mode_on_disk(mode: int) -> int:
    """Return the mode that a file of an ordinary user's layer has on disk in place of `mode`."""
    # The owner of the store must be able to read and remove it.
    return mode | (0o700 if stat.S_ISDIR(mode) else 0o600)


def believed(value: bytes, st: os.stat_result) -> Override | None:
    """Return what `value`, an OVERRIDE_STAT in the layer of a user, tells of a file with `st`.

    The mode has its type.  None if it means nothing.
    """
    found = Override.decode(value)
    if found is None:
        return None
    kind = stat.S_IFMT(found.mode) or stat.S_IFMT(st.st_mode)
    found = found._replace(mode=kind | stat.S_IMODE(found.mode))
    if not has_several_users():
        return found
    if not _explains(found.mode, st):
        found = Override(found.uid, found.gid, st.st_mode)
    mapped = _is_mapped("uid", found.uid) and _is_mapped("gid", found.gid)
    if not mapped and st.st_uid == st.st_gid == 0:
        return found
    return found._replace(uid=st.st_uid, gid=st.st_gid)


def as_recorded(st: os.stat_result, value: bytes) -> os.stat_result:
    """Return `st` with the owner, mode and device that `value`, an OVERRIDE_STAT, records."""
    found = believed(value, st)
    if found is None:
        return st
    first = (found.mode, *st[1:4], found.uid, found.gid, *st[6:])
    more = {name: getattr(st, name) for name in _BEYOND}
    return os.stat_result(first, {**more, "st_rdev": found.rdev})


def _explains(mode: int, st: os.stat_result) -> bool:
    """Tell whether a file of that recorded `mode` would have been made as the file of `st`."""
    if stat.S_IFMT(mode) == stat.S_IFMT(st.st_mode):
        return mode_on_disk(mode) == st.st_mode
    return st.st_mode == stat.S_IFREG | 0o600 and not st.st_size


def believed_name(name: bytes) -> bytes | None:
    """Return which attribute `name`, which begins with OVERRIDE_PREFIX, stands for, if any."""
    meant = name[len(OVERRIDE_PREFIX) :]
    # The kernel accepts capabilities where there are several users.
    if not meant.startswith(_SECURITY) or (meant == _CAPABILITY and has_several_users()):
        return None
    return meant


def has_several_users() -> bool:
    """Tell whether this process is root of a user namespace that has other users too."""
    return os.geteuid() == 0 and _namespace(os.getpid()).several


def _is_mapped(kind: str, number: int) -> bool:
    ranges = _namespace(os.getpid()).ids[kind]
    return any(first <= number < first + count for first, count in ranges)


class _Namespace(NamedTuple):
    """The user namespace of which a process is root: the first of each range of ids, its number."""

    ids: dict[str, list[tuple[int, int]]]
    several: bool


@lru_cache(1)
def _namespace(pid: int) -> _Namespace:
    # A process that is root in its namespace does not enter another one.
    del pid
    ids = {kind: _ids(kind) for kind in ("uid", "gid")}
    several = not is_machine_root() and sum(count for _, count in ids["uid"]) > 1
    return _Namespace(ids, several)


def _ids(kind: str) -> list[tuple[int, int]]:
    with open(f"/proc/self/{kind}_map", "rb") as file:
        ranges = [line.split() for line in file]
    return [(int(first), int(count)) for first, _, count in ranges]
