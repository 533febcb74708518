"""Something goes wrong at the n-th system call: for crash and error tests of the core.

`system_calls` replaces, for the calling thread, every function through which
`unionfs` reaches the kernel: those of `os` and `fcntl`, and the C functions
that `unionfs.syscalls` holds.  What happens at each call is for a `Hook` to
say.  Closing a descriptor and changing credentials are left alone: the one
cannot fail in a way that matters, the other not at all.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

from unionfs.core import freeze, rename, setup, whiteout_ops
from unionfs.errors import fs_error
from unionfs.syscalls.renameat2 import RENAME_EXCHANGE, RENAME_WHITEOUT, renameat2

# fmt: off
OS_CALLS = (
    "access", "chmod", "chown", "copy_file_range", "fchmod", "fchown", "fdatasync", "fsync",
    "fstat", "fstatvfs", "ftruncate", "getxattr", "lchown", "link", "listdir", "listxattr",
    "lseek", "lstat", "mkdir", "mkfifo", "mknod", "open", "pread", "preadv", "pwrite", "pwritev",
    "read", "readlink", "remove", "removexattr", "rename", "replace", "rmdir", "scandir",
    "sendfile", "setxattr", "stat", "statvfs", "symlink", "truncate", "unlink", "utime", "write",
)

CHANGING = frozenset((
    "copy_file_range", "link", "mkdir", "mkfifo", "mknod", "pwrite", "pwritev", "rename",
    "replace", "sendfile", "setxattr", "symlink", "write", "_renameat2", "ioctl",
))
"""The calls that may need room on the disk, with `os.open` where it creates."""

READING = frozenset((
    "access", "fdatasync", "fstat", "fstatvfs", "fsync", "getxattr", "listdir", "listxattr",
    "lseek", "lstat", "pread", "preadv", "read", "readlink", "scandir", "stat", "statvfs",
    "_name_to_handle_at",
))
"""The calls that leave the files as they are, as `os.open` does without O_CREAT and O_TRUNC."""
# fmt: on

_NEVER = ("setfsuid", "setfsgid", "prctl")

Hook = Callable[[str, tuple[Any, ...]], None]
"""Called before each system call with its name and arguments; its OSError is the call's."""


@contextmanager
def system_calls(hook: Hook) -> Iterator[None]:
    """Call `hook` before each system call `unionfs` makes in this thread."""
    thread = threading.get_ident()
    undo: list[tuple[ModuleType, str, object]] = []
    hooked: dict[int, object] = {}
    for module, name in [(os, name) for name in OS_CALLS] + [(fcntl, "ioctl")]:
        real = getattr(module, name)
        hooked[id(real)] = wrapper = _hooked(real, name, hook, thread)
        undo.append((module, name, real))
        setattr(module, name, wrapper)
    try:
        for full_name, module in list(sys.modules.items()):
            if full_name.split(".")[0] != "unionfs":
                continue
            for name, value in list(vars(module).items()):
                if id(value) in hooked:
                    undo.append((module, name, value))
                    setattr(module, name, hooked[id(value)])
                elif type(value).__name__ == "_FuncPtr" and not name.endswith(_NEVER):
                    undo.append((module, name, value))
                    setattr(module, name, _hooked_c(value, name, hook, thread))
        yield
    finally:
        for module, name, value in reversed(undo):
            setattr(module, name, value)


def _hooked(real: Callable[..., Any], name: str, hook: Hook, thread: int) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            hook(name, args)
        return real(*args, **kwargs)

    return call


def _hooked_c(real: Callable[..., Any], name: str, hook: Hook, thread: int) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        if threading.get_ident() == thread:
            try:
                hook(name, args)
            except OSError as error:
                ctypes.set_errno(error.errno or 0)
                return -1
        return real(*args)

    return call


class Countdown:
    """A hook that runs `act` at the `at`-th call, and notes which call that was."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.at = at
        self.act = act
        self.calls: list[str] = []
        self.struck: str | None = None

    def __call__(self, name: str, args: tuple[Any, ...]) -> None:
        self.calls.append(name)
        if len(self.calls) == self.at:
            self.struck = f"call {self.at}, {name}{args!r}"
            self.act()


class DiskFull:
    """A hook by which from the `at`-th call that needs room on none of them works.

    With `once`, it is that one only.
    """

    def __init__(self, at: int, code: int, *, once: bool = False) -> None:
        self.at = at
        self.code = code
        self.once = once
        self.count = 0
        self.struck: str | None = None

    def __call__(self, name: str, args: tuple[Any, ...]) -> None:
        creates = name == "open" and len(args) > 1 and args[1] & os.O_CREAT
        if name not in CHANGING and not creates:
            return
        self.count += 1
        if self.count == self.at or (self.count > self.at and not self.once):
            self.struck = self.struck or f"call {self.count}, {name}{args!r}"
            raise OSError(self.code, os.strerror(self.code))


@contextmanager
def without_exchange() -> Iterator[None]:
    """Let the core find uppers on a filesystem that cannot exchange two names, as NFS."""

    def limited(src_dir: int, src: bytes, dst_dir: int, dst: bytes, flags: int) -> None:
        if flags & (RENAME_EXCHANGE | RENAME_WHITEOUT):
            raise fs_error(errno.EINVAL)
        renameat2(src_dir, src, dst_dir, dst, flags)

    with ExitStack() as patched:
        for module in (setup, whiteout_ops, rename, freeze):
            patched.enter_context(patch.object(module, "renameat2", limited))
        patched.enter_context(patch.object(setup, "is_remote", lambda fs_type: True))
        yield
