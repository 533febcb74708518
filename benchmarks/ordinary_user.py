"""An ordinary user with sub-ids, for stores of a benchmark or of a test.

Decided here and only here: which ids the user has, and that the machine's files do not name
the user: those that do are mounted over them, in a mount namespace of each command.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

UID = 4242
_SUB_IDS = 700_000

_AS_USER = f"""
for name in passwd group subuid subgid; do mount --bind "$0/$name" "/etc/$name"; done
umount /sys/fs/cgroup/unified 2> /dev/null || true  # beside version 1, crun refuses it
exec setpriv --reuid={UID} --regid={UID} --clear-groups --inh-caps=-all -- "$@"
"""


class OrdinaryUser:
    """The user, whose home is the directory `home`; what is there already becomes theirs.

    `environment` are the variables that their commands need.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        names = {
            "passwd": f"root:x:0:0::/root:/bin/sh\nbench:x:{UID}:{UID}::{home}:/bin/sh\n",
            "group": f"root:x:0:\nbench:x:{UID}:\n",
            "subuid": f"bench:{_SUB_IDS}:65536\n",
            "subgid": f"bench:{_SUB_IDS}:65536\n",
        }
        for name, content in names.items():
            (home / name).write_text(content)
        (home / "runtime").mkdir(mode=0o700)
        for path in [home, *home.rglob("*")]:
            os.lchown(path, UID, UID)
        self.environment = {
            "HOME": str(home),
            "USER": "bench",
            "XDG_RUNTIME_DIR": str(home / "runtime"),
        }

    def words(self, *words: str | Path) -> Sequence[str | Path]:
        """Return the command that runs the command `words` as the user."""
        return ["unshare", "-m", "sh", "-ec", _AS_USER, self.home, *words]
