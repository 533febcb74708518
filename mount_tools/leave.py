"""The end of a command, as fast as possible, and how it says what another one's was.

Decided here and only here: that the interpreter is not finalised, which takes as long as a
quarter of a mount.  The kernel frees everything at once.  What Python would still do is done
here: it writes what is buffered.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn


def leave(status: int) -> NoReturn:
    """End this process with exit status `status`; the caller has closed what needs closing.

    While another thread runs, the interpreter ends as usual.
    """
    threading = sys.modules.get("threading")  # not imported: few commands need it
    if threading is not None and threading.active_count() > 1:
        sys.exit(status)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
    os._exit(status)


def exit_code(status: int) -> int:
    """Return a shell's exit code for a wait status: 128 and the signal if it was killed."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
