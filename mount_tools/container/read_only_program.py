"""Run this program again from a read-only mount, for containers that may trace its processes.

Decided here and only here: how.  A process of a container that has CAP_SYS_PTRACE
(`HostConfig.may_trace`) can open /proc/PID/exe of init, and of the process of `exec` before it
becomes the command: our interpreter, on the machine's own mount.  Its root could change mode and
owner of that file.  On a read-only mount of it the kernel refuses (EROFS).

Which mount a program is on is known to the kernel from its execve(2), and forks inherit it.  So
the command line runs itself again, before it has done anything.  The containers of an ordinary
user need nothing: they have no rights over a process that was started outside of their user
namespace.

Source: CVE-2019-5736; proc_pid_exe(5), "Permission to dereference"; mount_setattr(2), Linux 5.12.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from unionfs.syscalls.mount_tree import MOUNT_ATTR_RDONLY, clone_mount, set_mount_attributes

_SELF = "/proc/self/exe"


def run_read_only(end: Callable[[], None]) -> None:
    """Run this program again as it was called, on a read-only mount; call `end` before.

    Returns if it is on one, or if none can be made: before Linux 5.12, or without the privilege.
    """
    if os.geteuid() != 0:
        return
    if _is_read_only(os.statvfs(_SELF)):
        with suppress(OSError), open("/proc/self/comm", "wb") as name:
            name.write(os.fsencode(os.path.basename(sys.orig_argv[0])))  # execve(2) took "fd"'s
        return
    try:
        program = os.open(_SELF, os.O_PATH | os.O_CLOEXEC)
        try:
            mount = clone_mount(program)
        finally:
            os.close(program)
    except OSError:
        return
    try:
        with suppress(OSError):
            set_mount_attributes(mount, MOUNT_ATTR_RDONLY, 0)
        if _is_read_only(os.fstatvfs(mount)):
            end()
            os.execv(f"/proc/self/fd/{mount}", sys.orig_argv)
    finally:
        os.close(mount)


def _is_read_only(found: os.statvfs_result) -> bool:
    return bool(found.f_flag & os.ST_RDONLY)
