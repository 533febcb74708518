"""The user that this process works for, also while it is root of a user namespace of theirs.

Decided here and only here: whose store, logins and configuration are the default ones.  In
a user namespace that the process has entered its effective user id is 0, but they are still
those of the user it had been before.  A process that was started as root of a namespace, as in
a container, works for that root.

Threading: `remember_user` is called while there is one thread, as namespaces are entered.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_before: int | None = None


def remember_user(uid: int | None) -> None:
    """Let `uid` be the user from now on; None stands for the effective user id.

    A process that enters a user namespace gives its `user_id()` before that.
    """
    global _before
    _before = uid


def user_id() -> int:
    """Return the user's id outside of the namespace that this process has entered."""
    return os.geteuid() if _before is None else _before


def home_directory(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return $HOME, or what the user's line of /etc/passwd says; None if neither is there.

    A relative $HOME is ignored: it would be in whatever is the working directory.
    """
    found = directory_in("HOME", environment)
    if found is not None:
        return found
    import pwd

    try:
        return Path(pwd.getpwuid(user_id()).pw_dir)
    except KeyError:
        return None


def directory_in(name: str, environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the directory that the variable `name` has; None without it, or if it is relative.

    `environment` is that of this process by default.  Source: XDG Base Directory Specification,
    "All paths set in these environment variables must be absolute".
    """
    given = (os.environ if environment is None else environment).get(name, "")
    return Path(given) if os.path.isabs(given) else None
