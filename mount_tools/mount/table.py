"""What is mounted on a directory, from the mount table and without asking the mount."""

from __future__ import annotations

import os

from unionfs.light_logging import Logger
from unionfs.syscalls import mountinfo

log = Logger(__name__)
OWN_TABLE = "/proc/self/mountinfo"


def device_on(directory: str, table: str = OWN_TABLE) -> str | None:
    """Return MAJOR:MINOR of the topmost mount on `directory`, or None if there is no mount.

    `table` is the path of a mountinfo.  None also if the table cannot be read: a mount must
    not fail because /proc is missing.
    """
    try:
        return mountinfo.device_on(os.fsencode(directory), table)
    except OSError as error:
        log.warning("the mount table cannot be read: %s", error)
        return None
