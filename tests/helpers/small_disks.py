"""Small filesystems of a test's own, to be filled up."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.mounts import run


@contextlib.contextmanager
def small_disk(base: Path, kind: str, size: int, inodes: int = 128) -> Iterator[Path]:
    """Mount an empty filesystem of `size` bytes beneath `base`: an ext4, xfs, btrfs or tmpfs."""
    top = base / "small"
    top.mkdir()
    if kind != "tmpfs":
        image = base / "image"
        with image.open("wb") as out:
            out.truncate(size)
        if kind == "ext4":
            run("mkfs.ext4", "-q", "-F", "-N", str(inodes), image)
        else:
            run(f"mkfs.{kind}", "-q", image)
        run("mount", "-o", "loop", image, top)
    else:
        run("mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={inodes}", "small", top)
    try:
        yield top
    finally:
        run("umount", "-l", top)


def fill(top: Path, left: int) -> Path:
    """Take what there is but for `left` bytes; return the file that holds it.

    Not all that statvfs(2) calls free can be used, so blocks are taken until none is left.
    """
    filler, size = top / "filler", 0
    with filler.open("wb") as out:
        for step in (1 << 20, 1 << 14, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(out.fileno(), size, step)
                    size += step
        out.truncate(max(size - left, 0))
    return filler
