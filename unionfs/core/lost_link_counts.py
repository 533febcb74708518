"""Count the removed hard links of lower files that were never copied up.

Decided here and only here: how their number outlives a remount.  overlayfs
copies such a file up to have an inode to count on, data and all, which makes a
removal cost what a copy does; here each is a line in `<workdir>/lostlinks`: the
file handle, and when the link was lost, which is what ctime then shows.  Once
the file is copied up the index counts, and nobody asks here any more.

Source: fs/overlayfs/util.c:ovl_nlink_start(), for what is avoided.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from unionfs.core.inode import NOTHING_LOST, Key, Lost
from unionfs.core.layer import Fd, Layer, open_regular
from unionfs.core.origin import decode_origin, origin_layer

log = logging.getLogger(__name__)

_FILE = b"lostlinks"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LostLinks:
    """What is known of them, by the st_dev and st_ino of the lower file.

    The caller sees to it that changes of one inode come one after another.
    """

    def __init__(self, base_fd: Fd | None, lowers: tuple[Layer, ...]) -> None:
        """Read what the workdir open as `base_fd` has, None to remember until the union closes."""
        self._base_fd = base_fd
        self._fd: Fd | None = None
        self._lost: dict[Key, Lost] = {}
        if base_fd is not None:
            self._load(base_fd, lowers)

    def get(self, key: Key) -> Lost:
        """Return what the lower file `key` has lost."""
        return self._lost.get(key, NOTHING_LOST)

    def add(self, key: Key, origin: bytes | None, ctime_ns: int) -> Lost:
        """Count one more; `origin` is what a copy of the file would be marked with."""
        lost = Lost(self.get(key).links + 1, ctime_ns)
        self._lost[key] = lost
        if origin is not None and self._base_fd is not None:
            try:
                if self._fd is None:
                    self._fd = Fd(os.open(_FILE, _FLAGS, 0o600, dir_fd=self._base_fd))
                os.write(self._fd, b"%s %d\n" % (origin.hex().encode(), ctime_ns))
            except OSError as error:
                log.error("a link count will be too high after a remount: %s", error)
        return lost

    def forget(self, key: Key) -> None:
        """Note that the file is in the index now, and counted there."""
        self._lost.pop(key, None)

    def close(self) -> None:
        self._fd = self._base_fd = None

    def _load(self, base_fd: Fd, lowers: tuple[Layer, ...]) -> None:
        try:
            with open(os.dup(open_regular(_FILE, base_fd)), "rb") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("link counts may be too high: lostlinks cannot be read: %s", error.strerror)
            return
        for value, ctime_ns in _parsed(lines):
            origin = decode_origin(value)
            layer = None if origin is None else origin_layer(origin, lowers)
            if origin is not None and layer is not None:
                key = layer.dev, origin.ino
                self._lost[key] = Lost(self.get(key).links + 1, ctime_ns)


def _parsed(lines: list[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield the origin and time of each line; one cut short by a crash is left out."""
    for line in lines:
        value, _, when = line.partition(b" ")
        try:
            yield bytes.fromhex(value.decode()), int(when)
        except ValueError:
            log.warning("the line %r of lostlinks makes no sense", line)
