"""The module signal without its enumerations, whose names take 0.3 ms of each start, and enum.

Signals and what is done about them are plain numbers here.
"""

from __future__ import annotations

from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

__all__ = ["signal"]
