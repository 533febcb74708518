"""How many files a process that serves a union may have open, and room for them.

Decided here and only here: the limit, and how large the table of descriptors is from the start.

A union opens a descriptor for each directory of a layer that it uses.  The kernel doubles the
table when it is full.  In a process with threads it then waits until no CPU uses the old one,
which takes 10 to 15 ms, and a request waits for that.  A process with one thread does not wait.

Source: fs/file.c:expand_fdtable(), synchronize_rcu().
"""

from __future__ import annotations

import fcntl
import os
import resource
from contextlib import suppress

ROOM = 1 << 14
"""How many descriptors the table has room for.  It takes 8 bytes for each.

A union keeps no more directories open, see `unionfs.core.setup`; files come on top.
"""


def allow_many_files() -> None:
    """Raise the limit of open files as far as possible, and make room for some of them.

    Without effect on time if it is called once there are threads.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = ROOM if hard == resource.RLIM_INFINITY else min(ROOM, hard)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Without memory for it the table grows when it has to.
        with suppress(OSError):
            os.close(fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, most - 1))
    finally:
        os.close(null)
