"""Namespaces, roots and capabilities of a process, which make a container.

unshare(2), setns(2), pivot_root(2), prctl(2); Python before 3.12 has none of them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from collections.abc import Iterable

from unionfs.syscalls.libc import fail, libc
from unionfs.syscalls.mount import MNT_DETACH, MS_MOVE, mount, umount

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_NR_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}.get(os.uname().machine, 155)
_PATIENCE_S = 2.0
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_CAPABILITY_VERSION = 0x20080522

_unshare = libc.unshare
_unshare.argtypes = [ctypes.c_int]
_setns = libc.setns
_setns.argtypes = [ctypes.c_int, ctypes.c_int]
_prctl = libc.prctl
_prctl.argtypes = [
    ctypes.c_int,
    ctypes.c_ulong,
    ctypes.c_ulong,
    ctypes.c_ulong,
    ctypes.c_ulong,
]
_capget, _capset = libc["capget"], libc["capset"]
_capget.argtypes = _capset.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
_syscall = libc["syscall"]  # a separate object: other modules declare other types
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long, ctypes.c_char_p, ctypes.c_char_p]


def unshare(flags: int) -> None:
    """Give this process, or with CLONE_NEWPID its children, its own namespaces.

    CLONE_NEWUSER fails with EINVAL if the process has other threads, see `_await_threads`.
    """
    if flags & CLONE_NEWUSER:
        _await_threads()
    if _unshare(flags) != 0:
        raise fail()


def _await_threads() -> None:
    """Wait until the threads that have been joined are gone for the kernel too.

    Python's join returns when a thread has left the interpreter, which on a busy machine is
    some time before it ends.
    """
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end and len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0.001)


def map_to_root(uid: int, gid: int, *, only_gid: bool = False) -> None:
    """Map root of our new user namespace to `uid` and `gid`, and nothing else.

    With `only_gid` the user ids are mapped already.  Source: user_namespaces(7).
    """
    lines = [("setgroups", "deny"), ("gid_map", f"0 {gid} 1")]
    if not only_gid:
        lines.insert(1, ("uid_map", f"0 {uid} 1"))
    for name, line in lines:
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def setns(fd: int, kind: int) -> None:
    """Enter the namespace open as `fd`, of that CLONE_NEW* kind.

    A mount namespace, with its root, becomes that of the calling thread alone: the kernel
    refuses one to a thread that shares its root with others (EINVAL), also with those that
    have been joined and are about to end.  CLONE_NEWUSER is as for `unshare`.
    """
    if kind == CLONE_NEWNS:
        unshare(CLONE_FS)
    elif kind == CLONE_NEWUSER:
        _await_threads()
    if _setns(fd, kind) != 0:
        raise fail()


def mount_namespace() -> int:
    """Return this process's mount namespace, open; the caller closes the fd."""
    return os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def leave_chroot(namespace: int) -> None:
    """Make the root of the mount namespace `namespace`, open, the root of this process.

    In the namespace of the process this is how to leave a chroot.  It needs CAP_SYS_ADMIN
    and CAP_SYS_CHROOT.  The working directory becomes `/`.

    Source: setns(2); Linux fs/namespace.c:mntns_install().
    """
    setns(namespace, CLONE_NEWNS)


def chroot_to(fd: int) -> None:
    """Make the directory open as `fd` the root and the working directory of this process."""
    os.fchdir(fd)
    os.chroot(b".")


def enter_root(namespace: int, root: int) -> None:
    """Make the mount whose root is open as `root` the root of the mount namespace `namespace`.

    `namespace` is this process's own.  What was mounted there before is unmounted, so that
    no process of the namespace reaches it: neither by `..` from a chroot of its own nor by
    setns(2).  pivot_root(2) exchanges the mount that the *caller's* root is on, which in a
    chroot is not the namespace's root; so the caller leaves its chroot first.  The first
    mount of a system that runs from an initramfs cannot be exchanged (EINVAL), and the new
    root is moved on top of it, as switch_root(8) does.

    Source: pivot_root(2) "pivot_root(\".\", \".\")"; Linux fs/namespace.c:path_pivot_root().
    """
    leave_chroot(namespace)
    os.fchdir(root)
    try:
        pivot_root(b".", b".")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mount(b".", b"/", b"", MS_MOVE, b"")
        os.chroot(b".")
    else:
        umount(b".", MNT_DETACH)
    os.chdir(b"/")


def pivot_root(new_root: bytes, put_old: bytes) -> None:
    """Make `new_root` the root mount, and move the one before to `put_old`: pivot_root(2)."""
    if _syscall(_NR_PIVOT_ROOT, new_root, put_old) != 0:
        raise fail(new_root)


def die_with_parent(signal: int) -> None:
    """Get `signal` when the thread that forked this process ends."""
    if _prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0:
        raise fail()


def adopt_orphans() -> None:
    """Become the parent of all descendants whose parent ends: prctl(2) PR_SET_CHILD_SUBREAPER."""
    if _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise fail()


def hide_from_others() -> None:
    """Let no process without CAP_SYS_PTRACE trace this one, until it runs another program."""
    if _prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise fail()


def no_new_privileges() -> None:
    """Let no program that this process runs gain privileges, by suid bits say, for good."""
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise fail()


def drop_capability(number: int) -> bool:
    """Drop a capability from the bounding set of this process; False if it does not exist."""
    return bool(_prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) == 0)


def keep_only(numbers: Iterable[int]) -> None:
    """Give up, in this process, which has one thread, every capability that is not in `numbers`.

    Source: capset(2).
    """
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    sets = ctypes.create_string_buffer(24)
    if _capget(header, sets) != 0:
        raise fail()
    kept = sum(1 << number for number in set(numbers))
    low, high = kept & 0xFFFFFFFF, kept >> 32
    # effective, permitted and inheritable, for the lower 32 capabilities and then the others
    has = struct.unpack("=6I", sets.raw)
    masks = (low, low, low, high, high, high)
    left = struct.pack("=6I", *(mask & one for mask, one in zip(masks, has, strict=True)))
    if _capset(header, left) != 0:
        raise fail()
