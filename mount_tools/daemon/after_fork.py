"""What a forked process does first: part with the descriptors and memory of its parent.

A daemon, or the process of a container, closes all descriptors but a few, and their
numbers come to stand for other files.  Python objects from before the fork still think
that they own these numbers: garbage closes them when it is collected, and a log handler
of the parent writes to them.  Either can damage a file, the store's database among them.

Threading: a fresh fork has one thread.
"""

from __future__ import annotations

import gc
import logging
import os


def forget_descriptors() -> None:
    """Make sure that no object from before the fork closes or writes to a descriptor."""
    gc.freeze()
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
