"""/proc/locks: who has a file locked."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from unionfs.syscalls.lock_table import flock_holder


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
