"""The locks of the machine: /proc/locks.

Source: proc_locks(5); fs/locks.c:lock_get_status().
"""

from __future__ import annotations

import os


def flock_holder(fd: int) -> int | None:
    """Return the process that has an exclusive flock(2) on the open file `fd`, None if unknown.

    It is the one that took the lock, which in another PID namespace cannot be named.
    """
    st = os.fstat(fd)
    file = f"{os.major(st.st_dev):02x}:{os.minor(st.st_dev):02x}:{st.st_ino}"
    try:
        with open("/proc/locks") as table:
            for line in table:
                # 1: FLOCK  ADVISORY  WRITE 4711 fe:00:260072 0 EOF
                words = line.split()
                if words[1] == "FLOCK" and words[3] == "WRITE" and words[5] == file:
                    pid = int(words[4])
                    return pid if os.path.exists(f"/proc/{pid}") else None
    except (OSError, IndexError, ValueError):
        return None  # no procfs here, or another format: nobody depends on this
    return None
