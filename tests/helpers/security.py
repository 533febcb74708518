"""The binary forms of POSIX ACLs and file capabilities, and running as another user."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


class _CredentialCalls(NamedTuple):
    setgroups: int
    setresgid: int
    setresuid: int


_CREDENTIAL_CALLS = {
    "x86_64": _CredentialCalls(116, 119, 117),
    "aarch64": _CredentialCalls(159, 149, 147),
}

ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"
CAPABILITY = "security.capability"

_ACL_VERSION = 2
_NO_ID = 0xFFFFFFFF
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

USER_ID = 12345
GROUP_ID = 23456


def acl(*entries: tuple[int, int] | tuple[int, int, int]) -> bytes:
    """Encode (tag, permissions[, id]) entries as an xattr value holds them."""
    packed = [struct.pack("<I", _ACL_VERSION)]
    for tag, permissions, *who in entries:
        packed.append(struct.pack("<HHI", tag, permissions, who[0] if who else _NO_ID))
    return b"".join(packed)


def parse_acl(value: bytes) -> list[tuple[int, int, int]]:
    """Decode an xattr value into (tag, permissions, id) entries."""
    return [
        (tag, permissions, who) for tag, permissions, who in struct.iter_unpack("<HHI", value[4:])
    ]


def capability(permitted: int) -> bytes:
    """Encode a version 2 file capability with the effective bit set."""
    return struct.pack("<IIIII", 0x02000001, permitted, 0, 0, 0)


def run_as(
    action: Callable[[], T],
    *,
    uid: int = USER_ID,
    gid: int = GROUP_ID,
    groups: Sequence[int] = (),
) -> T:
    """Run `action` in a thread with these ids and no capabilities; return its result.

    The kernel keeps credentials by thread, and the raw system calls change
    only the calling one's; no fork, so results and exceptions need no pickling.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            _become(uid, gid, groups)
            outcome.set_result(action())
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name=f"uid {uid}")
    thread.start()
    thread.join()
    return outcome.result()


def _become(uid: int, gid: int, groups: Sequence[int]) -> None:
    numbers = _CREDENTIAL_CALLS[os.uname().machine]
    array = (ctypes.c_uint * len(groups))(*groups)
    for number, *args in (
        (numbers.setgroups, len(groups), array),
        (numbers.setresgid, gid, gid, gid),
        (numbers.setresuid, uid, uid, uid),
    ):
        if _libc.syscall(number, *args) < 0:
            code = ctypes.get_errno()
            raise RuntimeError(f"cannot become {uid}:{gid}: {os.strerror(code)}")
