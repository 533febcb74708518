"""`--chown` and `--chmod`: the owner and mode of the files that COPY and ADD create.

This module alone decides how both are read.  Names are looked up in the image.  Without a
group, a user gets the group of the same name or number; if there is no group of that name,
the user's group in /etc/passwd.

Source: the Dockerfile reference, "COPY --chown --chmod"; moby `internals_linux.go`;
chmod(1) for symbolic modes.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable

from layerstore.containerfile.errors import ContainerfileError, Location
from layerstore.errors import StoreError, shown
from layerstore.images.accounts import groups, id_number, is_number, users
from unionfs.light_typing import NamedTuple

ModeChange = Callable[[int], int]

_CLAUSE = re.compile(r"(?P<who>[ugoa]*)(?P<changes>(?:[-+=](?:[ugo]|[rwxXst]*))+)")
_CHANGE = re.compile(r"(?P<how>[-+=])(?P<what>[ugo]|[rwxXst]*)")
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
_MASKS = {"u": 0o4700, "g": 0o2070, "o": 0o1007}


class Owner(NamedTuple):
    """A user and a group by number."""

    uid: int
    gid: int


ROOT = Owner(0, 0)


def find_owner(root_fd: int, text: str, at: Location) -> Owner:
    """Return the owner of `--chown=text`, looked up in the image at `root_fd`.

    Raises ContainerfileError.
    """
    user, colon, group = text.partition(":")
    if ":" in group or not user or (colon and not group):
        raise ContainerfileError(at, f"invalid chown string format: {shown(text)}")
    try:
        return _found(root_fd, user, group)
    except StoreError as error:
        raise ContainerfileError(at, f"--chown={shown(text)}: {error}") from None


def _found(root_fd: int, user: str, group: str) -> Owner:
    account = None
    if is_number(user):
        uid = id_number(user)
    else:
        account = next((row for row in users(root_fd) if row[0] == user), None)
        if account is None:
            raise StoreError(f"can't find uid for user {shown(user)}: no such user in the image")
        uid = id_number(account[2])
    wanted = group or user
    if is_number(wanted):
        return Owner(uid, id_number(wanted))
    found = next((row for row in groups(root_fd) if row[0] == wanted), None)
    if found is not None:
        return Owner(uid, id_number(found[2]))
    if account is None or group:
        raise StoreError(f"can't find gid for group {shown(wanted)}: no such group in the image")
    return Owner(uid, id_number(account[3]))


def read_mode(text: str, at: Location) -> ModeChange:
    """Return a function that applies `--chmod=text`, octal or symbolic, to a st_mode."""
    if re.fullmatch(r"[0-9]+", text):
        if not re.fullmatch(r"0*[0-7]{1,4}", text):
            raise ContainerfileError(
                at,
                f"invalid chmod parameter: '{shown(text)}'. it should be octal string and between "
                "0 and 07777",
            )
        bits = int(text, 8)
        return lambda mode: stat.S_IFMT(mode) | bits
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    found = [clause for clause in clauses if clause is not None]
    if len(found) < len(clauses):
        raise ContainerfileError(at, f"invalid chmod parameter: '{shown(text)}'")
    steps = [
        (clause["who"] or "a", step["how"], step["what"])
        for clause in found
        for step in _CHANGE.finditer(clause["changes"])
    ]

    def change(mode: int) -> int:
        for who, how, what in steps:
            mode = _changed(mode, who, how, what)
        return mode

    return change


def _changed(mode: int, who: str, how: str, what: str) -> int:
    whose = 0
    for letter in "ugo" if "a" in who else who:
        whose |= _MASKS[letter]
    if what in ("u", "g", "o"):
        three = mode >> {"u": 6, "g": 3, "o": 0}[what] & 7
        bits = three * 0o111
    else:
        bits = 0
        for letter in what:
            bits |= _BITS.get(letter, 0)
        if "X" in what and (stat.S_ISDIR(mode) or mode & 0o111):
            bits |= 0o111
        if "s" in what:
            bits |= 0o6000
        if "t" in what:
            bits |= 0o1000
            whose |= 0o1000
    bits &= whose
    if how == "+":
        return mode | bits
    if how == "-":
        return mode & ~bits
    return mode & ~(whose & 0o7777) | bits
