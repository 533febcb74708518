"""Read directories before a program asks for them.

A program that walks a tree, as find(1) does, waits for the disk at each directory that is not
in memory.  If that takes long, the directories beneath the one where it is are read ahead, and then
those that come after it in the directories above: in the order in which they are listed, and each
with all that is beneath it, as fts(3) walks.  What is read stays in the
kernel's caches only: nothing is kept here, so nothing can be stale.  `files_ahead` does that for
files.

Decided here and only here: when to read ahead, and how far.  `MOST` directories may be ahead of
the programs; a program that walks on makes room for more.

Threading: `loaded` may be called from any thread.  The reading takes place in a function that
is given to `start`, which has to run it in a thread of its own; it returns when there was
nothing to read for some seconds.  `_changed` is held for no system call on a layer but the
opening of a directory that is in memory.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from unionfs.core.layer import Fd, Layer, RealDir
from unionfs.core.whiteout import DT_DIR
from unionfs.syscalls.getdents import entries

COLD_NS = 10_000
"""The reading of a directory in memory waits for less; one from the disk for 20 us and more.

A merged directory is many of them, of which each can meet a neighbour on the CPU.
"""

BEGIN_NS = 1_000_000
"""So much more than that was waited lately when reading ahead is worth a thread.

What was waited counts for twice as much at most, and less with each directory in memory.
"""

MOST = 64
_MOST_LEVELS = 32  # fds
_MOST_KNOWN = 20_000
IDLE_S = 3.0
_PATIENCE_S = 1.0
# An inode brings its neighbours with it: 16 of ext4 are in one block.
_SAMPLE = 16
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME

Start = Callable[[Callable[[], None]], None]


class _Level:
    """A directory at `path` of a layer, whose entries are read ahead.

    `names` are the directories in it that are left; None if they are not known yet.  A program
    has read what comes before the entry `after`, and is there now; b"" if it is at the beginning.
    """

    __slots__ = ("after", "fd", "layer", "names", "path")

    def __init__(
        self, layer: Layer, path: bytes, fd: Fd, names: Iterator[bytes] | None, after: bytes = b""
    ) -> None:
        self.layer = layer
        self.path = path
        self.fd = fd
        self.names = names
        self.after = after

    def list(self) -> Iterator[bytes]:
        """Return `names`, which are read now if they are not known."""
        if self.names is None:
            self.names = iter(())  # there are none if it cannot be read
            folders = read_folders(self.fd)
            if self.after in folders:
                del folders[: folders.index(self.after) + 1]
            self.names = iter(folders)
        return self.names


class ReadAhead:
    """What is read ahead of the programs of one union."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._changed = threading.Condition()
        self._levels: list[_Level] = []
        self._known: set[tuple[int, bytes]] = set()
        self._lead = 0  # directories read ahead less those that programs have read
        self._running = self._waits = self._closed = False
        self._waited_ns = 0  # lately, more than `COLD_NS` for each directory

    def loaded(self, reals: Sequence[RealDir], waited_ns: int) -> None:
        """Note that a program has read the directories `reals`, and waited so many ns."""
        # Threads that meet here may lose what one of them adds.
        over_ns = waited_ns - COLD_NS * len(reals)
        lately_ns = self._waited_ns = min(max(0, self._waited_ns + over_ns), 2 * BEGIN_NS)
        cold = over_ns >= 0 and lately_ns >= BEGIN_NS
        if not cold and not self._levels:
            return
        with self._changed:
            self._lead -= 1
            if cold and not self._closed:
                for real in reals:
                    self._begin_at(real)
            if self._levels and self._waits and self._lead < MOST // 2:
                self._waits = False
                self._changed.notify_all()

    def _begin_at(self, real: RealDir) -> None:
        """Read ahead from `real` on, beneath it and then in the directories above.

        Unless it was read ahead itself.  `_changed` is held.
        """
        begun: list[_Level] = []
        above: RealDir | None = real
        after = b""
        while above is not None:
            at = above
            path = at.path()
            if not self._claim(at.layer, path):
                break
            try:
                # A description of its own: the offset of another one is that of its reader.
                fd = Fd(os.open(b".", _OPEN, dir_fd=at.fd()))
            except OSError:
                break  # reading ahead is no reason for an error
            begun.append(_Level(at.layer, path, fd, None, after))
            above, after = at.parent, at.name
        if not begun:
            return
        self._levels += reversed(begun)
        # The first is where the program will come back to.
        del self._levels[1 : max(1, len(self._levels) - _MOST_LEVELS + 1)]
        self._lead = 0
        if not self._running:
            try:
                self._start(self._run)
                self._running = True
            except RuntimeError:  # no thread can be started
                self._levels.clear()

    def _claim(self, layer: Layer, path: bytes) -> bool:
        """Tell whether a directory was not read before; `_changed` is held."""
        place = (layer.number, path)
        if place in self._known:
            return False
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(place)
        return True

    def close(self) -> None:
        """End the reading, and close what it has open."""
        with self._changed:
            self._closed = True
            self._levels.clear()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._running, _PATIENCE_S)

    # -- in the thread --

    def _run(self) -> None:
        while True:
            with self._changed:
                level = self._next()
                if level is None:
                    self._running = False
                    self._levels.clear()
                    self._known.clear()  # the kernel may forget them
                    self._changed.notify_all()
                    return
            with suppress(OSError):  # as above
                self._read_on(level)

    def _next(self) -> _Level | None:
        """Wait until something is to be read; return None if nothing was for long."""
        end = time.monotonic() + IDLE_S
        while not self._closed:
            if self._levels and self._lead < MOST:
                return self._levels[-1]
            self._waits = True
            left = end - time.monotonic()
            if left <= 0 or not self._changed.wait(left):
                break
        self._waits = False
        return None

    def _read_on(self, level: _Level) -> None:
        """Read the next directory in `level`."""
        name = next(level.list(), None)
        if name is None:
            with self._changed:
                if level in self._levels:
                    self._levels.remove(level)
            return
        path = b"/".join(part for part in (level.path, name) if part)
        with self._changed:
            if not self._claim(level.layer, path):
                return
        fd = Fd(os.open(name, _OPEN, dir_fd=level.fd))
        folders = read_folders(fd)
        with self._changed:
            self._lead += 1
            if folders and not self._closed and level in self._levels:
                self._levels.append(_Level(level.layer, path, fd, iter(folders)))


def read_folders(fd: Fd) -> list[bytes]:
    """Read the directory `fd` and some of its inodes; return the directories in it."""
    folders = []
    for number, (name, _, d_type) in enumerate(entries(fd)):
        if d_type == DT_DIR:
            folders.append(name)
        elif not d_type or number % _SAMPLE == 0:
            with suppress(FileNotFoundError):  # removed meanwhile
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISDIR(st.st_mode):
                    folders.append(name)
    return folders
