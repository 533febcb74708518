"""Ctrl-C while a program starts, and while it ends: it ends the process, without a traceback.

The programs put it off in their first lines, before they import anything: until then Python
raises KeyboardInterrupt wherever it is, and prints a traceback.  A part that can be interrupted,
and says so, takes it up meanwhile.

What Python does before the first line of a program is beyond us.
"""

from __future__ import annotations

TYPE_CHECKING = False  # for the client of the warm helper even light_typing takes time
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # without the names of numbers, which take time


class Interruptible:
    """A context in which Ctrl-C raises KeyboardInterrupt, if the program has put it off."""

    __slots__ = ("_put_off",)

    def __enter__(self) -> None:
        self._put_off = signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        if self._put_off:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        if self._put_off:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
