"""Where the log of a mount goes.

In the foreground: to stderr.  A daemon logs to `-o log=FILE`, else to syslog, else, if no
syslog daemon listens, to a file of its own, which the first warning creates.

A log never blocks the mount: syslogd may itself wait for a file on it.  A record that
cannot be written at once is dropped.  Files are created with mode 0600, whatever the umask
of the daemon is, and symbolic links are not followed, since every user can write to /tmp.

Source: syslog(3), RFC 3164; glibc `misc/syslog.c:__vsyslog_internal()`.
"""

from __future__ import annotations

import errno
import logging
import os
from io import TextIOWrapper

from unionfs.errors import ConfigError
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

IDENTITY = "mount.pyunion"
SYSLOG = "/dev/log"

_LINE = f"{IDENTITY}[%(process)d]: %(levelname)s %(name)s: %(message)s"
_STAMPED = f"%(asctime)s {_LINE}"

_LOG_DAEMON = 3 << 3
_SEVERITIES = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}


def set_up(*, foreground: bool, debug: bool, file: str | None) -> None:
    """Send all log records to the right place for this mount.

    Raises `ConfigError` if `file` cannot be opened for writing.
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
        handler = _open_file(file)
    elif foreground:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(_LINE))
    elif os.path.exists(SYSLOG):
        handler = _Syslog()
        handler.setFormatter(logging.Formatter(_LINE))
    else:
        # O_EXCL: in a directory that every user can write to, the file must be a new one.
        own = own_file()
        if own is None:
            return logging.NullHandler()
        handler = _File(os.fspath(own), os.O_EXCL, delay=True)
        handler.setFormatter(logging.Formatter(_STAMPED))
        handler.setLevel(logging.WARNING)
    return handler


def _open_file(file: str) -> logging.Handler:
    try:
        handler = _File(file)
    except OSError as error:
        why = "is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise ConfigError(f"the log {file} cannot be written: {why}") from None
    handler.setFormatter(logging.Formatter(_STAMPED))
    return handler


class _File(logging.FileHandler):
    """A log file; with `delay`, the first record opens it."""

    def __init__(self, path: str, flags: int = 0, *, delay: bool = False) -> None:
        self._flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | flags
        # O_NONBLOCK: a FIFO without a reader fails at once instead of blocking the mount.
        self._flags |= os.O_NOFOLLOW | os.O_NONBLOCK
        super().__init__(path, delay=delay)

    def _open(self) -> TextIOWrapper:
        fd = os.open(self.baseFilename, self._flags, 0o600)
        return open(fd, "a", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)


class _Syslog(logging.Handler):
    """Sends records to the syslog daemon, without waiting for it.

    The standard library's handler blocks while the daemon's queue is full, and its import
    takes as long as a tenth of a mount.
    """

    def __init__(self) -> None:
        super().__init__()
        self._socket: socket.socket | None = None

    def emit(self, record: logging.LogRecord) -> None:
        severity = _SEVERITIES.get(record.levelno, 6)
        line = self.format(record).encode(errors="backslashreplace").replace(b"\0", b"\\0")
        message = b"<%d>%b\0" % (_LOG_DAEMON | severity, line)
        try:
            self._send(message)
        except BlockingIOError:
            pass  # its queue is full: dropped
        except OSError:
            # A restarted daemon listens on another socket of the same path.
            self._close()
            try:
                self._send(message)
            except OSError:
                self.handleError(record)

    def _send(self, message: bytes) -> None:
        if self._socket is None:
            self._socket = _connected(SYSLOG)
        self._socket.send(message)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self._close()
        super().close()


def _connected(path: str) -> socket.socket:
    """Return a socket connected to `path`, of the kind that listens there."""
    import socket

    def connect(kind: int) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, kind)
        connection.setblocking(False)
        try:
            connection.connect(path)
        except BaseException:
            connection.close()
            raise
        return connection

    try:
        return connect(socket.SOCK_DGRAM)
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
    return connect(socket.SOCK_STREAM)


def own_file() -> str | None:
    """Return a path in the first writable directory for run-time files, if there is one."""
    for directory in ("/run", os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp"):
        if directory and os.access(directory, os.W_OK):
            return os.path.join(directory, f"{IDENTITY}.{os.getpid()}.log")
    return None
