"""/proc/locks: who has a file locked."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from unionfs.syscalls.lock_table import exclusive_flocks, flock_holder


def test_the_process_that_has_locked_a_directory(tmp_path: Path) -> None:
    one, other = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    try:
        assert flock_holder(one) is None
        fcntl.flock(one, fcntl.LOCK_EX)
        assert flock_holder(other) == os.getpid()
        fcntl.flock(one, fcntl.LOCK_SH)
        assert flock_holder(other) is None
    finally:
        os.close(one)
        os.close(other)


def test_the_exclusive_locks_of_the_machine(tmp_path: Path) -> None:
    fds, files = [], []
    try:
        for name in ("locked", "shared", "free"):
            (tmp_path / name).mkdir()
            fds.append(os.open(tmp_path / name, os.O_RDONLY))
            st = os.fstat(fds[-1])
            files.append((st.st_dev, st.st_ino))
        fcntl.flock(fds[0], fcntl.LOCK_EX)
        fcntl.flock(fds[1], fcntl.LOCK_SH)
        found = exclusive_flocks()
        assert [found.get(file) for file in files] == [os.getpid(), None, None]
    finally:
        for fd in fds:
            os.close(fd)
