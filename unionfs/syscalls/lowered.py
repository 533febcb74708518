"""Threads without CAP_FSETID, and the moments in which they need it; other capabilities given up.

Source: capabilities(7) "CAP_FSETID", "CAP_SYS_RESOURCE", "SECBIT_NO_SETUID_FIXUP"; capget(2);
setfsgid(2).
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from unionfs.credentials import CAP_FSETID
from unionfs.syscalls.fsids import keep_capabilities
from unionfs.syscalls.libc import fail, libc_held

_VERSION_3 = 0x20080522
_FSETID = 1 << CAP_FSETID
_LOW = struct.Struct("=I")
_SUID_SGID = stat.S_ISUID | stat.S_ISGID
_NOBODY = 0xFFFFFFFE  # the highest group id; (gid_t) -1 means "no change"
_NR_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159}.get(os.uname().machine, 159)

_capget = libc_held.capget
_capget.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_capset = libc_held.capset
_capset.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_setfsgid = ctypes.PyDLL(None).setfsgid
_setfsgid.argtypes = [ctypes.c_uint]
_setgroups = libc_held["syscall"]  # glibc's setgroups() changes every thread
_setgroups.restype = ctypes.c_long
_setgroups.argtypes = [ctypes.c_long, ctypes.c_size_t, ctypes.c_void_p]

_header = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION_3, 0), 8)
_AS_IT_IS = nullcontext()
_some_lowered = False  # no thread is lowered in most processes, so nothing has to be raised


def lower_thread() -> bool:
    """Give up CAP_FSETID and the supplementary groups in this thread; tell whether that lasts.

    That takes CAP_SETPCAP, so that a change of the filesystem user id does not give the
    capability back, and CAP_SETGID.  Threads that this one starts are lowered too.  The
    capability stays permitted: `with_fsetid` has it where it is needed.

    Raises the `OSError` of capset(2).
    """
    global _some_lowered
    if not keep_capabilities() or (os.getgroups() and _setgroups(_NR_SETGROUPS, 0, None) != 0):
        return False
    _some_lowered = True
    _set(_effective() & ~_FSETID)
    return True


def give_up(capability: int) -> None:
    """Take `capability`, of a number below 32, from this thread and those that it starts.

    It stays permitted.  No error if the thread does not have it.  Raises the `OSError` of
    capset(2).
    """
    before = _effective()
    if before & 1 << capability:
        _set(before & ~(1 << capability))


def keeping_sgid(mode: int) -> AbstractContextManager[None]:
    """Return a context in which a file may be given `mode`, whatever group it has."""
    return with_fsetid() if _some_lowered and mode & stat.S_ISGID else _AS_IT_IS


def keeping_suid(fd: int) -> AbstractContextManager[None]:
    """Return a context in which a change of the open file `fd` takes no suid and sgid away."""
    return with_fsetid() if _some_lowered and os.fstat(fd).st_mode & _SUID_SGID else _AS_IT_IS


def keeping_sgid_at(dir_fd: int, name: bytes | None) -> AbstractContextManager[None]:
    """Like `keeping_suid`, for the file `name` beneath `dir_fd`, or `dir_fd` itself.

    For chown(2), which keeps sgid only where the group may not execute the file.
    """
    if not _some_lowered:
        return _AS_IT_IS
    if name is None:
        return keeping_suid(dir_fd)
    mode = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode
    return with_fsetid() if mode & _SUID_SGID else _AS_IT_IS


@contextmanager
def with_fsetid() -> Iterator[None]:
    """Have CAP_FSETID in this thread meanwhile, if it is lowered.

    Raises the `OSError` of capset(2).
    """
    before = _effective()
    if before & _FSETID:
        yield
        return
    _set(before | _FSETID)
    try:
        yield
    finally:
        _set(before)


class WithoutFsetid:
    """A context in which this thread lacks CAP_FSETID and is in no group that owns files.

    The kernel keeps the credentials of the thread that opens or registers a
    file.  They decide whether a write removes suid and sgid from the file.

    All threads that use one instance have the credentials of the thread that made it.
    Entering raises the `OSError` of capset(2), with nothing changed.
    """

    def __init__(self) -> None:
        self._full = _capabilities()
        self._lowered = _with_effective(self._full, _effective() & ~_FSETID)
        self._gid = os.getegid()
        groups = os.getgroups()
        self._count = len(groups)
        self._groups = (ctypes.c_uint * max(1, len(groups)))(*groups)

    def __enter__(self) -> None:
        if _capset(_header, self._lowered) != 0:
            raise fail()
        _setfsgid(_NOBODY)
        if self._count:
            _setgroups(_NR_SETGROUPS, 0, None)

    def __exit__(self, *_: object) -> None:
        if self._count:
            _setgroups(_NR_SETGROUPS, self._count, self._groups)
        _setfsgid(self._gid)
        if _capset(_header, self._full) != 0:
            raise fail()


def _capabilities() -> ctypes.Array[ctypes.c_char]:
    """Return the capability sets of this thread: effective, permitted, inheritable, twice."""
    sets = ctypes.create_string_buffer(24)
    if _capget(_header, sets) != 0:
        raise fail()
    return sets


def _effective() -> int:
    """Return the lower half of the effective set, which has CAP_FSETID."""
    (low,) = _LOW.unpack_from(_capabilities())
    return int(low)


def _with_effective(sets: ctypes.Array[ctypes.c_char], low: int) -> ctypes.Array[ctypes.c_char]:
    changed = ctypes.create_string_buffer(sets.raw, 24)
    _LOW.pack_into(changed, 0, low)
    return changed


def _set(low: int) -> None:
    if _capset(_header, _with_effective(_capabilities(), low)) != 0:
        raise fail()
