"""Reading /proc/self/mountinfo, which names every mount without asking any of them.

Source: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

log = logging.getLogger(__name__)

_OCTAL = re.compile(rb"\\([0-7]{3})")


def device_on(directory: str) -> str | None:
    """Return MAJOR:MINOR of the topmost mount on `directory`, or None without one.

    None also where there is no /proc, which a mount must not fail for.
    """
    wanted = os.fsencode(directory)
    device = None
    try:
        table = Path("/proc/self/mountinfo").read_bytes()
    except OSError as error:
        log.warning("the mount table cannot be read: %s", error)
        return None
    for line in table.splitlines():
        fields = line.split(b" ", 5)
        if _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), fields[4]) == wanted:
            device = fields[2].decode()
    return device
