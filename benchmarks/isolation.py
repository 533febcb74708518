"""Whatever fails, nothing stays behind: no mount, no daemon, no directory, no setting.

The run takes place in mount and process namespaces of its own.  When its first
process ends, on whatever way, the kernel ends every other process there, and
with the last of them go the mounts.  Around it stands this process, which has
nothing to do with any mount: it passes signals on, restores the setting of the
kernel that was changed and removes the directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from benchmarks.subjects import URING

INSIDE = "--inside"

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLEAN_UP_WITHIN = 20.0

# linux/fs.h: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_TOPDIR_FL
_GETFLAGS, _SETFLAGS, _TOP_OF_HIERARCHY = 0x80086601, 0x40086602, 0x00020000
_FLAGS = struct.Struct("=l4x")


def run_isolated(arguments: Sequence[str], cache: Path) -> int:
    """Run `python -m benchmarks` with `arguments` inside; return its exit status.

    The run gets a fresh directory in `cache`, gone afterwards.
    """
    cache.mkdir(parents=True, exist_ok=True)
    work = tempfile.mkdtemp(prefix="bench-", dir=cache)
    try:
        spread(Path(work))
        with uring_restored():
            return _run_in_namespaces([*arguments, INSIDE, work])
    finally:
        shutil.rmtree(work)


def spread(directory: Path) -> None:
    """Ask the filesystem to place what is in each directory of `directory` apart from the rest.

    ext4 without a journal gives no inode again that was deleted in the last minutes.  A program
    that creates files where thousands were deleted looks at each of them, whatever subject
    deleted them.

    Source: chattr(1), T; fs/ext4/ialloc.c:find_group_orlov(), recently_deleted().
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a filesystem without this flag
            flags = _FLAGS.unpack_from(fcntl.ioctl(fd, _GETFLAGS, bytes(_FLAGS.size)))[0]
            fcntl.ioctl(fd, _SETFLAGS, _FLAGS.pack(flags | _TOP_OF_HIERARCHY))
    finally:
        os.close(fd)


def _run_in_namespaces(arguments: Sequence[str]) -> int:
    process = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--mount", "--propagation", "private"),
            *("--pid", "--mount-proc", "--fork", "--kill-child"),
            *(sys.executable, "-m", "benchmarks", *arguments),
        ],
        # Ctrl-C is for us alone, who pass it on once.
        start_new_session=True,
    )
    with _passed_on(process):
        return process.wait()


@contextlib.contextmanager
def _passed_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ask the run to end when a signal asks us; kill it when it does not, or is asked twice."""

    def ask(signum: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGALRM) is kill:
            kill(signum, frame)
            return
        signal.signal(signal.SIGALRM, kill)
        signal.setitimer(signal.ITIMER_REAL, _CLEAN_UP_WITHIN)
        # unshare(1) blocks it; the run below does not.
        _signal_group(process, signal.SIGTERM)

    def kill(signum: int, frame: FrameType | None) -> None:
        process.kill()

    before = {signum: signal.signal(signum, ask) for signum in _ENDING}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for signum, handler in before.items():
            signal.signal(signum, handler)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _signal_group(process: subprocess.Popen[bytes], signum: int) -> None:
    subprocess.run(["kill", f"-{signum}", "--", f"-{process.pid}"], check=False)


@contextlib.contextmanager
def uring_restored() -> Iterator[None]:
    """Put the kernel's setting of io_uring for FUSE back afterwards."""
    before = URING.read_text() if URING.exists() else None
    try:
        yield
    finally:
        if before is not None:
            URING.write_text(before)
