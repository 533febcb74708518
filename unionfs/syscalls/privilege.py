"""The privileges of this process in the initial user namespace."""

from __future__ import annotations

import os

from unionfs.credentials import INITIAL_USER_NAMESPACE

_CAP_DAC_OVERRIDE = 1
_CAP_SYS_ADMIN = 21
_NEEDED = 1 << _CAP_DAC_OVERRIDE | 1 << _CAP_SYS_ADMIN


def has_machine_caps() -> bool:
    """Tell whether CAP_SYS_ADMIN and CAP_DAC_OVERRIDE are effective on the whole machine."""
    try:
        if os.stat("/proc/self/ns/user").st_ino != INITIAL_USER_NAMESPACE:
            return False
        with open("/proc/self/status", "rb") as file:
            status = file.read()
    except OSError:
        return False
    effective = int(status.partition(b"CapEff:")[2].split(maxsplit=1)[0], 16)
    return effective & _NEEDED == _NEEDED


def is_machine_root() -> bool:
    """Tell whether this process is root, with the whole machine's user ids mapped one to one."""
    if os.geteuid() != 0:
        return False
    with open("/proc/self/uid_map", "rb") as file:
        return file.read().split() == [b"0", b"0", b"4294967295"]
