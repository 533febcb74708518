"""The transport of a mount: which one is chosen, and what a transport module offers.

Decided here and only here: which transport is tried first, and what is logged about those
that are not used.  `dev_fuse` serves from threads of its own and is live when `begin`
returns.  `pyfuse3` runs on trio, whose import takes as long as the rest of a mount
together, and is live some time after `carry` was started.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable

from mount_tools.mount.mount_options import MountOptions
from unionfs.errors import MountError
from unionfs.light_logging import Logger
from unionfs.light_typing import Protocol
from unionfs.vfs import Filesystem, Notifier

log = Logger(__name__)

OnReady = Callable[[Notifier], None]
Carry = Callable[[OnReady], Awaitable[None]]
"""Serves to the end of the connection; calls its argument after the first request."""

# In the order in which `-o transport=auto` tries them, the faster one first.
TRANSPORTS = {
    "dev_fuse": "unionfs.transports.dev_fuse",
    "pyfuse3": "unionfs.transports.pyfuse3_ops",
}


class Running(Protocol):
    """A connection that is being served."""

    @property
    def notifier(self) -> Notifier: ...

    def leave_idle(self) -> None:
        """Let the process, which is to be SCHED_IDLE, be SCHED_OTHER while it waits for disks."""
        ...

    def join(self) -> None:
        """Wait for the end of the connection and close it; call it once.

        Raises the error that ended the connection early, if any did.
        """
        ...


class Transport:
    """One transport, with the options of a mount."""

    def __init__(self, name: str, options: MountOptions) -> None:
        """Raises ImportError if the module, or a module that it needs, is not installed."""
        self.name = name
        self._module = importlib.import_module(TRANSPORTS[name])
        self._options = options
        self._settings = {
            "timeout": options.union.timeout,
            "acl": options.acl,
            "xattrs": options.xattrs,
        }

    @property
    def on_trio(self) -> bool:
        """Whether it runs on trio: `begin` returns None, and `carry` serves."""
        return self.name != "dev_fuse"

    def why_not(self) -> str:
        """Return why this machine cannot use it, or an empty string if it can."""
        reason: str = self._module.why_not() if self.name == "dev_fuse" else ""
        return reason

    def begin(self, fs: Filesystem, fuse_fd: int) -> Running | None:
        """Begin to serve the mounted `fuse_fd`; return None if the transport runs on trio.

        Raises `MountError` if the transport cannot do what the options ask for, `OSError`
        if the kernel does not accept its FUSE_INIT.
        """
        if self.on_trio:
            return None
        running: Running = self._module.begin(
            fs,
            fuse_fd,
            io_uring=self._options.io_uring,
            passthrough=self._options.passthrough,
            no_open=self._options.no_open,
            **self._settings,
        )
        return running

    async def carry(self, fs: Filesystem, fuse_fd: int, on_ready: OnReady) -> None:
        """Serve on trio what `begin` did not begin; see `pyfuse3_ops.carry`."""
        await self._module.carry(fs, fuse_fd, on_ready=on_ready, **self._settings)


def load_transport(options: MountOptions) -> Transport:
    """Return the transport of the options; for "auto" the first one that works here.

    Raises `MountError` with the reasons if none does.
    """
    wanted = options.transport
    reasons = []
    for name in TRANSPORTS if wanted == "auto" else (wanted,):
        try:
            transport = Transport(name, options)
        except ImportError as error:
            reasons.append(f"{name}: {_missing(error)}")
            continue
        if wanted == "auto" and (reason := transport.why_not()):
            reasons.append(f"{name}: {reason}")
            continue
        passed_over = f" (not {'; '.join(reasons)})" if reasons else ""
        log.info("transport %s%s", name, passed_over)
        return transport
    raise MountError(f"no transport works here: {'; '.join(reasons)}")


def load_modules() -> None:
    """Import what a mount with the fastest transport needs."""
    from unionfs import open_union  # noqa: F401 - imports the core

    importlib.import_module(TRANSPORTS["dev_fuse"])


def why_no_io_uring() -> str:
    """Return why the kernel has no FUSE-over-io_uring, or an empty string if it has."""
    reason: str = importlib.import_module("unionfs.transports.uring").why_not()
    return reason


def _missing(error: ImportError) -> str:
    if error.name != "pyfuse3":
        return str(error)
    return (
        "it needs the Python package pyfuse3, an extra: pip install 'pyunion[pyfuse3]'"
        " (compiled there, with gcc and libfuse3-dev)"
    )
