"""Writing a whole filesystem back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.helpers.mounts import require_root
from tests.helpers.small_disks import small_disk
from tests.helpers.unions import errno_of
from unionfs.syscalls.syncfs import syncfs


def test_the_data_of_all_files_reaches_the_disk(tmp_path: Path) -> None:
    require_root()
    contents = [os.urandom(4096) for _ in range(3)]
    with small_disk(tmp_path, "ext4", 8 << 20) as top:
        for number, content in enumerate(contents):
            (top / str(number)).write_bytes(content)
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        try:
            syncfs(fd)
        finally:
            os.close(fd)
        image = (tmp_path / "image").read_bytes()
        assert all(content in image for content in contents)


def test_a_closed_descriptor_is_ebadf() -> None:
    assert errno_of(lambda: syncfs(-1)) == errno.EBADF
