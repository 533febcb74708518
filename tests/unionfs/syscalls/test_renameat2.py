"""Renames with flags."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from tests.helpers.mounts import require_root
from tests.helpers.unions import errno_of
from unionfs.syscalls.renameat2 import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    renameat2,
)


@pytest.fixture(autouse=True)
def two_files(tmp_path: Path) -> None:
    """Make the files a and b."""
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")


def test_a_plain_rename_replaces(tmp_path: Path, folder: int) -> None:
    renameat2(folder, b"a", folder, b"b", 0)
    assert (tmp_path / "b").read_text() == "a"
    assert not (tmp_path / "a").exists()


def test_noreplace_refuses(tmp_path: Path, folder: int) -> None:
    refused = errno_of(lambda: renameat2(folder, b"a", folder, b"b", RENAME_NOREPLACE))
    assert refused == errno.EEXIST
    assert (tmp_path / "b").read_text() == "b"


def test_exchange_swaps(tmp_path: Path, folder: int) -> None:
    renameat2(folder, b"a", folder, b"b", RENAME_EXCHANGE)
    assert (tmp_path / "a").read_text() == "b"
    assert (tmp_path / "b").read_text() == "a"


def test_whiteout_is_left_at_the_old_name(tmp_path: Path, folder: int) -> None:
    require_root()
    renameat2(folder, b"a", folder, b"c", RENAME_WHITEOUT)
    st = (tmp_path / "a").lstat()
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == 0
    assert (tmp_path / "c").read_text() == "a"


def test_the_error_names_the_source(folder: int) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        renameat2(folder, b"none", folder, b"b", 0)
    assert caught.value.filename == b"none"
