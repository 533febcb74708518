"""The signals of a process, as /proc/PID/status tells of them."""

from __future__ import annotations

from collections.abc import Iterable

# 32 and 33, which the C library keeps for itself: its posix_spawn(3), by which make(1) runs
# things, leaves them ignored, and its sigaction(2) refuses to undo that.
_OF_THE_LIBRARY = 3 << 31


def signal_masks(status: Iterable[str]) -> dict[str, int]:
    """Return `SigBlk`, `SigIgn` and so on, a bit for each signal, of the lines of `status`."""
    found = {}
    for line in status:
        name, _, value = line.partition(":")
        if name in ("SigPnd", "SigBlk", "SigIgn", "SigCgt"):
            found[name] = int(value, 16) & ~_OF_THE_LIBRARY
    return found
