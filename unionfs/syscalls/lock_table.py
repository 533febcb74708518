"""The locks of the machine: /proc/locks.

Source: proc_locks(5); fs/locks.c:lock_get_status().
"""

from __future__ import annotations

import os

File = tuple[int, int]  # st_dev and st_ino


def flock_holder(fd: int) -> int | None:
    """Return the process that has an exclusive flock(2) on the open file `fd`, None if unknown.

    It is the one that took the lock, which in another PID namespace cannot be named.
    """
    st = os.fstat(fd)
    pid = exclusive_flocks().get((st.st_dev, st.st_ino))
    return pid if pid is not None and os.path.exists(f"/proc/{pid}") else None


def exclusive_flocks() -> dict[File, int]:
    """Return the process of each exclusive flock(2), by the file.

    Empty if the table cannot be read: nobody depends on it.  A file of btrfs has another st_dev.
    """
    found: dict[File, int] = {}
    try:
        with open("/proc/locks") as table:
            for line in table:
                # 1: FLOCK  ADVISORY  WRITE 4711 fe:00:260072 0 EOF
                words = line.split()
                if words[1] == "FLOCK" and words[3] == "WRITE":
                    major, minor, ino = words[5].split(":")
                    found[os.makedev(int(major, 16), int(minor, 16)), int(ino)] = int(words[4])
    except (OSError, IndexError, ValueError):
        return {}  # no procfs here, or another format
    return found
