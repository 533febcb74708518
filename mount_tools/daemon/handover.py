"""Mounting an upper again while the daemon of its last mount is still writing it back.

umount(8) returns when the kernel is done; the daemon then syncs the upper and
cleans the workdir, and holds the locks on both until it has.  `umount X; mount X`
would find them in use.  So a daemon that is closing says so in its process name,
and a new one waits for it, and a moment for one that may be about to.

Source: flock(2); proc_locks(5); proc_pid_comm(5).
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path

log = logging.getLogger(__name__)

CLOSING = "pyunion-closing"  # a process name has 15 bytes
GRACE = 1.0  # seconds from the kernel's end of a mount until its daemon has noticed
PATIENCE = 30.0  # seconds; writing back much data to a slow disk takes long
_PAUSE = 0.02  # seconds between two looks


def announce_closing() -> None:
    """Tell whoever wants to mount the same upper that it will be free soon."""
    try:
        Path("/proc/self/comm").write_text(CLOSING)
    except OSError as error:
        log.debug("the process name cannot be set: %s", error)


def await_predecessor(directory: bytes) -> None:
    """Return when `directory` is not locked, or by a process that is not about to end.

    Whoever opens the union then finds out the rest; so nothing is raised here
    for a directory that cannot be opened.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        start = time.monotonic()
        while _is_locked(fd):
            waited = time.monotonic() - start
            if waited > PATIENCE or (waited > GRACE and not _is_closing(fd)):
                return
            time.sleep(_PAUSE)
    finally:
        os.close(fd)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks on this filesystem, so nobody holds one
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _is_closing(fd: int) -> bool:
    """Tell whether a process that holds a lock on `fd` says it is closing.

    Files are told apart by inode number alone: btrfs shows another device in
    /proc/locks than in stat(2), and no two such processes are likely to clash.
    """
    inode = f":{os.fstat(fd).st_ino}"
    try:
        for line in Path("/proc/locks").read_text().splitlines():
            # 1: FLOCK  ADVISORY  WRITE PID MAJOR:MINOR:INODE START END
            kind, _, _, pid, file = line.split()[1:6]
            if kind == "FLOCK" and file.endswith(inode) and _name_of(pid) == CLOSING:
                return True
    except (OSError, ValueError) as error:
        log.debug("it cannot be told who holds the lock: %s", error)
    return False


def _name_of(pid: str) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
