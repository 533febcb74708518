"""Where the log of a mount goes.

In the foreground to stderr.  A daemon has none: it logs to `-o log=FILE`, else
to syslog, else, where no syslog listens, to a file of its own which comes to be
with the first warning.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import tempfile
from pathlib import Path

from unionfs.errors import ConfigError

IDENTITY = "mount.pyunion"
SYSLOG = "/dev/log"

_LINE = f"{IDENTITY}[%(process)d]: %(levelname)s %(name)s: %(message)s"
_STAMPED = f"%(asctime)s {_LINE}"


class _LateFile(logging.FileHandler):
    """A file made by the first record; one that cannot be made fails no request."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)


def set_up(*, foreground: bool, debug: bool, file: str | None) -> None:
    """Send all log records to the right place for this mount.

    Raises `ConfigError` where `file` cannot be opened for writing.
    """
    handler = _handler(foreground, file)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    # A log that cannot be written must not disturb the mount.
    logging.raiseExceptions = foreground


def _handler(foreground: bool, file: str | None) -> logging.Handler:
    handler: logging.Handler
    if file is not None:
        try:
            handler = logging.FileHandler(file)
        except OSError as error:
            raise ConfigError(f"the log {file} cannot be written: {error.strerror}") from None
        handler.setFormatter(logging.Formatter(_STAMPED))
    elif foreground:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(_LINE))
    elif os.path.exists(SYSLOG):
        facility = logging.handlers.SysLogHandler.LOG_DAEMON
        handler = logging.handlers.SysLogHandler(SYSLOG, facility)
        handler.setFormatter(logging.Formatter(_LINE))
    else:
        # Nobody else may have made it first, in a directory for everybody: mode x.
        handler = _LateFile(_own_file(), mode="x", delay=True)
        handler.setFormatter(logging.Formatter(_STAMPED))
        handler.setLevel(logging.WARNING)
    return handler


def _own_file() -> Path:
    """Return a path in the first directory for run-time files that can be written."""
    candidates = ["/run", os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir()]
    for directory in candidates:
        if directory and os.access(directory, os.W_OK):
            return Path(directory, f"{IDENTITY}.{os.getpid()}.log")
    return Path(os.devnull)
