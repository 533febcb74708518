"""The first steps of a forked process: close its parent's descriptors, and forget them.

A daemon, or the process of a container, closes all descriptors but a few, and their
numbers are reused for other files.  Python objects from before the fork still refer
to these numbers: they close them when they are garbage collected, and a log handler
of the parent writes to them.  Both can damage a file, for example the store's database.

Threading: a new fork has one thread.
"""

from __future__ import annotations

import gc
import os
import sys

from unionfs.light_logging import send_to


def forget_descriptors() -> None:
    """Make sure that no object from before the fork closes or writes to a descriptor."""
    gc.freeze()
    send_to(None)
    logging = sys.modules.get("logging")  # not imported: no command needs it
    if logging is None:
        return
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()


def close_all_but(*kept: int) -> None:
    """Close every descriptor except 0, 1, 2 and those in `kept`."""
    start = 3
    for fd in sorted(kept):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


def release_stdio() -> None:
    """Point descriptors 0, 1 and 2 to /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
