"""A container's terminal: a pseudo-terminal of its own, connected to ours.

Decided here and only here: that it is one of the container's own devpts, so that its name
leads to it there; the mode of our terminal meanwhile (raw: what is typed goes inside
unchanged, and the inner terminal makes signals of it); and that ours is restored in every
case.

    Inside   opens the pair; the master's descriptor is sent out before the command begins
    Relay    out here, between the master and our stdin and stdout, until the command ends

Threading: one thread.

Source: pty(7), ioctl_tty(2), unix(7) "SCM_RIGHTS"; runc `docs/terminals.md`.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import stat
import struct
import termios
import tty
from contextlib import suppress

from layerstore.errors import StoreError
from mount_tools.container.signals import TAKEN
from unionfs.syscalls.openat2 import open_in_root
from unionfs.syscalls.signalfd import signalfd

Size = tuple[int, int]
"""Rows and columns."""

_PTMX = os.makedev(5, 2)
_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431
_FD = struct.Struct("i")
_PIECE = 4096
_LEFT_AT_THE_END = 64  # pieces; the kernel keeps fewer


def size_of_ours() -> Size | None:
    """Return the size of the terminal that is our stdout or stdin; None without one."""
    for fd in (1, 0):
        with suppress(OSError, termios.error):
            return termios.tcgetwinsize(fd)
    return None


# -- inside --


def open_terminal(root: int, size: Size | None) -> tuple[int, int]:
    """Return master and slave of a new pseudo-terminal of the container with that root."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    place = open_in_root(root, b"dev/pts/ptmx", os.O_PATH)
    try:
        found = os.fstat(place)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _PTMX:
            raise StoreError("/dev/pts of the container is no devpts: it has no terminals")
        master = os.open(f"/proc/self/fd/{place}", flags)
    finally:
        os.close(place)
    fcntl.ioctl(master, _TIOCSPTLCK, _FD.pack(0))
    if size is not None:
        termios.tcsetwinsize(master, size)
    # Not by its name, which may lead to another one by now.
    return master, fcntl.ioctl(master, _TIOCGPTPEER, flags)


# -- outside --


class Relay:
    """Copies stdin to `master` and what comes from `master` to stdout.  A context manager.

    If stdin is a terminal it is raw meanwhile.  The end of stdin does not end the relay.
    """

    def __init__(self, master: int) -> None:
        self._master = master
        self._hung_up = False
        self._typed = b""
        self._before: list[object] | None = None
        os.set_blocking(master, False)

    def __enter__(self) -> Relay:
        self._signals = signalfd(TAKEN)
        self._poll = select.poll()
        for fd in (self._signals, self._master, 0):
            self._poll.register(fd, select.POLLIN)
        self.resize()
        with suppress(termios.error):
            self._before = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSANOW)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for _piece in range(_LEFT_AT_THE_END):
                if not self._say():
                    break
        finally:
            if self._before is not None:
                with suppress(termios.error):  # it may have hung up
                    termios.tcsetattr(0, termios.TCSANOW, self._before)  # type: ignore[arg-type]
            os.close(self._signals)
            os.close(self._master)

    def resize(self) -> None:
        """Make the inner terminal as large as ours; its programs get SIGWINCH."""
        size = size_of_ours()
        if size is not None:
            with suppress(OSError, termios.error):
                termios.tcsetwinsize(self._master, size)

    def wait(self) -> signal.struct_siginfo:
        """Copy in both directions until a signal of TAKEN comes; return that."""
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._signals:
                    taken = signal.sigtimedwait(TAKEN, 0)
                    if taken is not None:
                        return taken
                elif fd == self._master:
                    self._say()
                    self._pass_typed()
                else:
                    self._read_typed()

    def _read_typed(self) -> None:
        # No more is read until this is written.
        self._poll.unregister(0)
        with suppress(OSError):
            self._typed = os.read(0, _PIECE)
        self._pass_typed()

    def _pass_typed(self) -> None:
        if not self._typed or self._hung_up:
            return
        try:
            with suppress(BlockingIOError):  # no program reads it, and the buffer is full
                self._typed = self._typed[os.write(self._master, self._typed) :]
        except OSError:
            self._hang_up()
            return
        if not self._typed:
            self._poll.register(0, select.POLLIN)
        self._poll.modify(self._master, select.POLLIN | (select.POLLOUT if self._typed else 0))

    def _say(self) -> bool:
        """Copy a piece of output; False if there is none now, or no more."""
        try:
            said = os.read(self._master, _PIECE)
        except BlockingIOError:
            return False
        except OSError:
            self._hang_up()
            return False
        # If stdout is closed the command must not wait for it.
        with suppress(OSError):
            while said:
                select.select((), (1,), ())  # another process may have made it non-blocking
                said = said[os.write(1, said) :]
        return True

    def _hang_up(self) -> None:
        if not self._hung_up:
            self._hung_up = True
            self._poll.unregister(self._master)
