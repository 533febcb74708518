"""Filesystems whose power can be cut: what had not reached the disk by then is gone.

After a cut, and after every unmount, the disk goes on as a copy of its image.  The old one may
still be mounted in the mount namespace of another program, and would be mounted again as it is
there: without power, so that all that is read gives EIO.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounts import run, wait_until

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
_NO_LOG_FLUSH = 2

# How each kind is made, and mounted.
_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ext4": (("mkfs.ext4", "-q", "-F"), ()),
    "writeback": (("mkfs.ext4", "-q", "-F"), ("data=writeback",)),
    # A block for each inode: an fsync(2) of one does not write another one.
    "no journal": (
        ("mkfs.ext4", "-q", "-F", "-b", "1024", "-I", "1024", "-O", "^has_journal"),
        (),
    ),
    "xfs": (("mkfs.xfs", "-q"), ("nouuid",)),
    "btrfs": (("mkfs.btrfs", "-q"), ("commit=300",)),
}
KINDS = tuple(_KINDS)

_COPIED = ("btrfs", "no journal")

SIZE = 320 << 20  # bytes; an XFS takes 300 MiB at least, and on less nothing is staged ahead


class Disk:
    """A filesystem of one of the `KINDS`, mounted at `top` while it is."""

    def __init__(self, base: Path, kind: str = "ext4") -> None:
        command, self._options = _KINDS[kind]
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not here")
        self.kind, self.top, self._base = kind, base / "top", base
        self._number, self._cut = 0, False
        self.top.mkdir()
        with self.image.open("wb") as out:
            out.truncate(SIZE)
        run(*command, self.image)

    @property
    def image(self) -> Path:
        return self._base / f"disk{self._number}"

    def mount(self, *options: str) -> None:
        if self._cut and self.kind == "no journal":
            run("e2fsck", "-fy", self.image, check=False)
        self._cut = False
        run("mount", "-o", ",".join(("loop", *self._options, *options)), self.image, self.top)

    def cut(self) -> None:
        """Stop the filesystem as a crash does.

        Where it cannot be told, or would go on with its metadata, its disk is copied as it is.
        Source: XFS_FSOP_GOING_FLAGS_NOLOGFLUSH of fs/xfs/libxfs/xfs_fs.h.
        """
        self._cut = True
        if self.kind in _COPIED:
            self._go_on_as_a_copy()
            return
        fd = os.open(self.top, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("=I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def unmount(self) -> None:
        copied = self._cut and self.kind in _COPIED
        if not copied:
            with contextlib.suppress(OSError):  # it has no power
                run("sync", "-f", self.top, check=False)

        def unmounted() -> bool:
            return run("umount", self.top, check=False).returncode == 0

        wait_until(unmounted, f"umount {self.top}")
        if not copied:
            self._go_on_as_a_copy()

    def _go_on_as_a_copy(self) -> None:
        before = self.image
        wait_until(lambda: _is_idle(before), "the disk to be idle")
        self._number += 1
        run("cp", "--sparse=always", before, self.image)

    @contextlib.contextmanager
    def mounted(self, *options: str) -> Iterator[Path]:
        self.mount(*options)
        try:
            yield self.top
        finally:
            self.unmount()


def _is_idle(image: Path) -> bool:
    """Tell whether nothing is being written to `image`, by any loop device of it."""
    for name in run("losetup", "-n", "-O", "NAME", "-j", image).stdout.split():
        device = os.path.basename(os.fsdecode(name))
        with contextlib.suppress(FileNotFoundError):
            if Path(f"/sys/block/{device}/inflight").read_text().split() != ["0", "0"]:
                return False
    return True
