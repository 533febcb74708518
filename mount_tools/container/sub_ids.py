"""The subordinate ids of an ordinary user: the other users and groups of their containers.

Decided here and only here: which ids a user namespace gets, and why it has only one of each
if it does.  0 is the user; the ids from 1 on are those of /etc/subuid and /etc/subgid, which
newuidmap(1) and newgidmap(1) map after their own check.

Threading: one thread, or the kernel refuses a new user namespace.

Source: subuid(5), newuidmap(1), user_namespaces(7).
"""

from __future__ import annotations

import os
from contextlib import suppress

from layerstore.user import remember_user, user_id
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.namespaces import CLONE_NEWUSER, map_to_root, unshare

_single_because: str | None = None

FILES = {"uid": "/etc/subuid", "gid": "/etc/subgid"}
_PROGRAMS = {"uid": "newuidmap", "gid": "newgidmap"}


class Range(NamedTuple):
    """`many` ids of this machine, from `first` on."""

    first: int
    many: int


def ranges(kind: str, user: str, uid: int) -> list[Range]:
    """Return the subordinate ids of a user; `kind` is "uid" or "gid"."""
    try:
        with open(FILES[kind], errors="replace") as lines:
            named = [line.strip().split(":") for line in lines]
    except OSError:
        return []
    found = []
    for name, *numbers in named:
        if name in (user, str(uid)) and len(numbers) == 2:
            with suppress(ValueError):
                found.append(Range(int(numbers[0]), int(numbers[1])))
    return [one for one in found if one.first > 0 and one.many > 0]


def why_single() -> str | None:
    """Return why this user has no subordinate ids, None if they have some."""
    from shutil import which

    uid = os.geteuid()
    for program in _PROGRAMS.values():
        if which(program) is None:
            return f"{program} is not installed (package uidmap)"
    for kind, file in FILES.items():
        if not ranges(kind, _name(uid), uid):
            return f"{file} has no line for {_name(uid)}"
    return None


def count() -> int:
    """Return how many subordinate user ids this user has."""
    uid = os.geteuid()
    return sum(one.many for one in ranges("uid", _name(uid), uid))


def missing_user(uid: int, gid: int) -> str:
    """Return a sentence for ids that the user namespace lacks, after `enter` or `remember`."""
    if _single_because is None:
        return f"there is no user {uid}:{gid} among the sub-ids of this container"
    return f"there is no user {uid}:{gid} in this container, which has one user: {_single_because}"


def remember() -> None:
    """Remember, for `missing_user`, why a container of this user has one id only, if it does.

    Its own /etc has other files.
    """
    global _single_because
    if os.geteuid() != 0:
        _single_because = why_single()


def forget() -> None:
    """Forget what `remember` or `enter` learned, as before the first of them."""
    global _single_because
    _single_because = None


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def enter() -> None:
    """Become root of a new user namespace, with the sub-ids that can be mapped.

    Raises OSError if the kernel refuses the namespace.
    """
    global _single_because
    remember_user(user_id())
    _single_because = _enter()


def _enter() -> str | None:
    """Do the work of `enter`; return why there is only one id, None if there are more."""
    uid, gid = os.geteuid(), os.getegid()
    reason = why_single()
    if reason is not None:
        unshare(CLONE_NEWUSER)
        map_to_root(uid, gid)
        return reason
    words = {
        kind: _words(own, ranges(kind, _name(uid), uid))
        for kind, own in (("uid", uid), ("gid", gid))
    }
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go_write)
        os._exit(_map(words, os.getppid(), go_read))
    os.close(go_read)
    try:
        unshare(CLONE_NEWUSER)
        os.write(go_write, b"1")
    finally:
        os.close(go_write)
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    program = list(_PROGRAMS.values())[0 if code == 1 else 1]
    map_to_root(uid, gid, only_gid=code == 2)
    return f"{program} refused the ids of {FILES['uid' if code == 1 else 'gid']}"


def _words(own: int, found: list[Range]) -> list[str]:
    """Return the arguments of newuidmap: inside, outside and count of each range."""
    words = ["0", str(own), "1"]
    inside = 1
    for one in found:
        words += [str(inside), str(one.first), str(one.many)]
        inside += one.many
    return words


def _map(words: dict[str, list[str]], pid: int, go: int) -> int:
    """Run the programs for the process `pid` once it says so; return which of them failed."""
    import subprocess

    if not os.read(go, 1):
        return 1
    for code, (kind, program) in enumerate(_PROGRAMS.items(), 1):
        try:
            done = subprocess.run(
                [program, str(pid), *words[kind]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        except OSError:
            return code
        if done.returncode != 0:
            return code
    return 0
