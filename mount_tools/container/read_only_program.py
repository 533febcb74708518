"""Run this program again from a read-only mount, for containers that may trace its processes.

Decided here and only here: how.  A process of a container that has CAP_SYS_PTRACE
(`HostConfig.may_trace`) can open /proc/PID/exe of init, and of the process of `exec` before it
becomes the command: our interpreter, on the machine's own mount.  Its root could change mode and
owner of that file.  On a read-only mount of it the kernel refuses (EROFS).

One that has CAP_CHECKPOINT_RESTORE too (`HostConfig.may_map`) can open /proc/PID/map_files: the
libraries that we have mapped.  Their directories are read-only in a mount namespace of our own.

Which mount a program is on is known to the kernel from its execve(2), and forks inherit it.  So
the command line runs itself again, before it has done anything.  The containers of an ordinary
user need nothing: they have no rights over a process that was started outside of their user
namespace.

Source: CVE-2019-5736; proc_pid_exe(5) and proc_pid_map_files(5); mount_setattr(2), Linux 5.12.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from unionfs.syscalls.mount import MS_BIND, MS_REC, MS_SLAVE, mount
from unionfs.syscalls.mount_tree import MOUNT_ATTR_RDONLY, clone_mount, set_mount_attributes
from unionfs.syscalls.namespaces import CLONE_NEWNS, unshare

_SELF = "/proc/self/exe"
_OF_EXTENSIONS = ("lib-dynload", "site-packages", "dist-packages")


def run_read_only(end: Callable[[], None], *, libraries: bool = False) -> None:
    """Run this program again as it was called, on a read-only mount; call `end` before.

    With `libraries` what it maps is on read-only mounts too.  Returns if it is on one, or if none
    can be made: before Linux 5.12, or without the privilege.
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
            clone = clone_mount(program)
        finally:
            os.close(program)
    except OSError:
        return
    try:
        with suppress(OSError):
            set_mount_attributes(clone, MOUNT_ATTR_RDONLY, 0)
        if _is_read_only(os.fstatvfs(clone)):
            if libraries:
                _protect_libraries()
            end()
            os.execv(f"/proc/self/fd/{clone}", sys.orig_argv)
    finally:
        os.close(clone)


def _protect_libraries() -> None:
    """Make the directories of our libraries read-only for us and the processes to come."""
    unshare(CLONE_NEWNS)
    mount(b"none", b"/", b"", MS_REC | MS_SLAVE, b"")
    for path in library_directories():
        mount(os.fsencode(path), os.fsencode(path), b"", MS_BIND | MS_REC, b"")
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            set_mount_attributes(fd, MOUNT_ATTR_RDONLY, 0, recursive=True)
        finally:
            os.close(fd)


def library_directories() -> list[str]:
    """Return the directories of the files mapped, and of the libraries that Python may load."""
    with open("/proc/self/maps", "rb") as maps:
        lines = [line.rstrip().split(maxsplit=5) for line in maps]
    # A mapping that changes its file is no library's: the store has one.
    mapped = (os.fsdecode(line[5]) for line in lines if line[1] != b"rw-s" and len(line) > 5)
    more = (path for path in sys.path if os.path.basename(path) in _OF_EXTENSIONS)
    found = {os.path.realpath(path) for path in (*map(os.path.dirname, mapped), *more) if path}
    return sorted(path for path in found if path != "/" and os.path.isdir(path))


def _is_read_only(found: os.statvfs_result) -> bool:
    return bool(found.f_flag & os.ST_RDONLY)
