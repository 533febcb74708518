"""What a fork has in its memory and must not use: objects that think they own a descriptor.

A daemon, or a container's process, closes every descriptor but a few, and the numbers
become other files'.  Garbage that closes what it holds, when it is found, would
close those; a log handler of the caller's would write to them, the store's
database among them.

Threading: one thread, in a fresh fork.
"""

from __future__ import annotations

import gc
import logging


def forget_descriptors() -> None:
    """Let nothing from before the fork close or write to a descriptor by itself."""
    gc.freeze()
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
