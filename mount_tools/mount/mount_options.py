"""The options of one mount, as values; `options` reads them from the words after `-o`.

A program that knows what it mounts makes them without reading words.
"""

from __future__ import annotations

from unionfs import UnionConfig
from unionfs.light_typing import NamedTuple


class MountOptions(NamedTuple):
    """One mount, as asked for.

    `flags` are MS_* of mount(2).  `selinux` maps names such as "context" to words such as
    `context="…"`, for the kernel if SELinux is on.  `acl` and `xattrs` tell whether the
    mount offers POSIX ACLs and extended attributes at all.  `io_uring`, one of `IO_URING`,
    `passthrough`, one of `PASSTHROUGH`, `sched`, one of `SCHED`, and `no_open` concern
    dev_fuse alone.  `log` is the file to log to instead of syslog, `control` the path of
    the control socket.  `ignored` are the options of an engine that have no effect.
    """

    union: UnionConfig
    flags: int = 0
    fsname: str | None = None
    allow_other: bool = False
    selinux: tuple[str, ...] = ()
    acl: bool = True
    xattrs: bool = True
    transport: str = "auto"
    io_uring: str = "auto"
    passthrough: str = "on"
    sched: str = "auto"
    no_open: bool = False
    foreground: bool = False
    debug: bool = False
    log: str | None = None
    control: str | None = None
    container: str | None = None
    ignored: tuple[str, ...] = ()
