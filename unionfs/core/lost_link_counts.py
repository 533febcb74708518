"""Count the removed hard links of lower files that were never copied up.

Decided here and only here: how their number is kept over a remount.  overlayfs
copies such a file up, with its data, because the upper inode keeps the count; so a
removal costs as much as a copy.  Here each removed link is a line in
`<workdir>/lostlinks`: the file handle, and the time of the removal, which ctime then
shows.  After a copy_up of the file the index has the count.

Source: fs/overlayfs/util.c:ovl_nlink_start(), which copies up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from unionfs.core.inode import NOTHING_LOST, Key, Lost
from unionfs.core.layer import Fd, Layer, open_regular
from unionfs.core.origin import decode_origin, origin_layer
from unionfs.light_logging import Logger

log = Logger(__name__)

_FILE = b"lostlinks"
_NEW = b"lostlinks.new"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LostLinks:
    """The removed links of each lower file, by its st_dev and st_ino.

    The caller makes changes of one inode one after another.
    """

    def __init__(self, base_fd: Fd | None, lowers: tuple[Layer, ...]) -> None:
        """Read the counts in the workdir `base_fd`; with None they are kept in memory only."""
        self._base_fd = base_fd
        self._fd: Fd | None = None
        self._lost: dict[Key, Lost] = {}
        if base_fd is not None:
            self._load(base_fd, lowers)

    def get(self, key: Key) -> Lost:
        """Return the removed links of the lower file `key`."""
        return self._lost.get(key, NOTHING_LOST)

    def add(self, key: Key, origin: bytes | None, ctime_ns: int) -> Lost:
        """Count one more; `origin` is the origin mark that a copy of the file would get."""
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

    def regain(self, key: Key, origin: bytes | None) -> Lost:
        """Count one less, since the removal of a link was undone."""
        before = self.get(key)
        if before.links <= 1:
            self._lost.pop(key, None)
        else:
            self._lost[key] = before._replace(links=before.links - 1)
        if before.links and origin is not None and self._base_fd is not None:
            self._drop_line(self._base_fd, origin.hex().encode())
        return self.get(key)

    def _drop_line(self, base_fd: Fd, value: bytes) -> None:
        """Remove one line of the origin `value` from the file."""
        self._fd = None
        try:
            with open(os.dup(open_regular(_FILE, base_fd)), "rb") as file:
                lines = file.read().splitlines(keepends=True)
            place = next(
                (at for at, line in enumerate(lines) if line.split(b" ")[0] == value), None
            )
            if place is None:
                return
            del lines[place]
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(_NEW, flags, 0o600, dir_fd=base_fd), "wb") as file:
                file.writelines(lines)
            os.rename(_NEW, _FILE, src_dir_fd=base_fd, dst_dir_fd=base_fd)
        except OSError as error:
            log.error("a link count will be too low after a remount: %s", error)

    def __bool__(self) -> bool:
        return bool(self._lost)

    def forget(self, key: Key) -> None:
        """Drop the count of a file that is now in the index, which counts its links."""
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
    """Yield the origin and time of each line; a line cut short by a crash is skipped."""
    for line in lines:
        value, _, when = line.partition(b" ")
        try:
            yield bytes.fromhex(value.decode()), int(when)
        except ValueError:
            log.warning("the line %r of lostlinks is invalid and ignored", line)
