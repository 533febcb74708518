"""Changes of mode and times by name."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from tests.helpers.unions import errno_of
from unionfs.syscalls.attributes import chmod, chmod_at, touch, touch_at, utimens_at


def test_chmod_never_follows_a_link(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").touch(0o644)
    (tmp_path / "link").symlink_to("file")
    chmod_at(folder, b"file", 0o4751)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o4751
    with pytest.raises(OSError):
        chmod_at(folder, b"link", 0o600)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o4751
    assert errno_of(lambda: chmod_at(folder, b"none", 0o600)) == errno.ENOENT


@pytest.mark.parametrize("ns", [0, 1, 999_999_999, 10**18 + 7, -1, -(10**9) - 5])
def test_times_are_set_to_the_nanosecond(tmp_path: Path, folder: int, ns: int) -> None:
    (tmp_path / "file").touch()
    utimens_at(folder, b"file", ns, 5)
    utimens_at(folder, b"file", None, ns)
    st = (tmp_path / "file").stat()
    assert (st.st_atime_ns, st.st_mtime_ns) == (ns, ns)
    utimens_at(folder, None, 7, None)
    assert os.fstat(folder).st_atime_ns == 7


def test_times_of_a_link_are_set_on_the_link_itself(tmp_path: Path, folder: int) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    utimens_at(folder, b"link", 1, 2)
    assert (tmp_path / "link").lstat().st_mtime_ns == 2


def test_touch_sets_mtime_and_keeps_atime(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    before = path.stat().st_mtime_ns  # by the clock of the filesystem
    os.utime(path, ns=(3, 4))
    with path.open("r+") as file:
        touch(file.fileno())
    assert path.stat().st_atime_ns == 3
    assert before <= path.stat().st_mtime_ns <= time.time_ns()


def test_a_descriptor_that_is_only_a_path_will_do(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    try:
        utimens_at(fd, None, 1, 2)
        utimens_at(fd, None, None, 3)
        st = tmp_path.stat()
        assert (st.st_atime_ns, st.st_mtime_ns) == (1, 3)
        touch_at(fd, None)
        assert tmp_path.stat().st_mtime_ns > 3
        for mode in (0o2711, 0o701):
            chmod(fd, mode)
            assert stat.S_IMODE(tmp_path.stat().st_mode) == mode
    finally:
        os.close(fd)
    assert errno_of(lambda: chmod(fd, 0o700)) == errno.EBADF


def test_errors_name_the_file_that_is_missing(folder: int) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        utimens_at(folder, b"none", 1, 2)
    assert caught.value.filename == b"none"
    assert errno_of(lambda: touch(-1)) == errno.EBADF
    assert errno_of(lambda: utimens_at(1 << 20, None, 1, 2)) == errno.EBADF
