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
import os
import threading
import time
from contextlib import suppress

from unionfs.errors import ConfigError
from unionfs.light_logging import DEBUG, ERROR, INFO, WARNING, send_to
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unionfs import light_socket as socket

IDENTITY = "mount.pyunion"
SYSLOG = "/dev/log"

_LOG_DAEMON = 3 << 3
_SEVERITIES = {ERROR: 3, WARNING: 4, INFO: 6, DEBUG: 7}
_NAMES = {ERROR: "ERROR", WARNING: "WARNING", INFO: "INFO", DEBUG: "DEBUG"}


def set_up(*, foreground: bool, debug: bool, file: str | None) -> Log:
    """Send all log records to the right place for this mount, and return that.

    Raises `ConfigError` if `file` cannot be opened for writing.
    """
    least = DEBUG if debug else INFO
    if file is not None:
        log: Log = _opened(file)
    elif foreground:
        log = _Stderr()
    elif os.path.exists(SYSLOG):
        log = _Syslog()
    elif (own := own_file()) is not None:
        # O_EXCL: in a directory that every user can write to, the file must be a new one.
        log, least = _File(own, os.O_EXCL), WARNING
    else:
        log = Log()
    send_to(log.log, least)
    return log


def _line(level: int, name: str, text: str) -> bytes:
    line = f"{IDENTITY}[{os.getpid()}]: {_NAMES[level]} {name}: {text}"
    return line.encode(errors="backslashreplace")


class Log:
    """Where records go; this one drops them."""

    def log(self, level: int, name: str, text: str) -> None:
        """Write a record; see `light_logging.Sink`."""

    def close(self) -> None:
        """Close what the log has open; the next record opens it again."""


class _Stderr(Log):
    def log(self, level: int, name: str, text: str) -> None:
        with suppress(OSError):  # nobody reads it
            os.write(2, _line(level, name, text) + b"\n")


def _opened(path: str) -> Log:
    file = _File(path)
    try:
        file.open()
    except OSError as error:
        why = "is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise ConfigError(f"the log {path} cannot be written: {why}") from None
    return file


class _File(Log):
    """A log file, which the first record opens if it is not open yet.

    O_NONBLOCK: a FIFO without a reader fails at once instead of blocking the mount.
    """

    def __init__(self, path: str, flags: int = 0) -> None:
        self._path = path
        self._flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | flags
        self._flags |= os.O_NOFOLLOW | os.O_NONBLOCK
        self._fd: int | None = None
        self._lock = threading.RLock()

    def open(self) -> int:
        """Open it; raises OSError."""
        self._fd = os.open(self._path, self._flags, 0o600)
        return self._fd

    def log(self, level: int, name: str, text: str) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        line = b"%b,%03d %b\n" % (stamp.encode(), now % 1 * 1000, _line(level, name, text))
        # A log that cannot be written must not disturb the mount.
        with self._lock, suppress(OSError):
            os.write(self.open() if self._fd is None else self._fd, line)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class _Syslog(Log):
    """Sends records to the syslog daemon, without waiting for it.

    The standard library's handler blocks while the daemon's queue is full.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._lock = threading.RLock()

    def log(self, level: int, name: str, text: str) -> None:
        line = _line(level, name, text).replace(b"\0", b"\\0")
        message = b"<%d>%b\0" % (_LOG_DAEMON | _SEVERITIES[level], line)
        with self._lock:
            try:
                self._send(message)
            except BlockingIOError:
                pass  # its queue is full: dropped
            except OSError:
                # A restarted daemon listens on another socket of the same path.
                self.close()
                with suppress(OSError):
                    self._send(message)

    def _send(self, message: bytes) -> None:
        if self._socket is None:
            self._socket = _connected(SYSLOG)
        self._socket.send(message)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connected(path: str) -> socket.socket:
    """Return a socket connected to `path`, of the kind that listens there."""
    from unionfs import light_socket as socket

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
        if os.path.isabs(directory) and os.access(directory, os.W_OK):
            return os.path.join(directory, f"{IDENTITY}.{os.getpid()}.log")
    return None
