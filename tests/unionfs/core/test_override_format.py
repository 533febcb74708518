"""The attribute for owner, mode and type, as containers/storage and fuse-overlayfs write it."""

from __future__ import annotations

import os
import stat

import pytest

from unionfs.core.override_format import Override


@pytest.mark.parametrize(
    ("override", "value"),
    [
        (Override(1, 2, stat.S_IFREG | 0o4755), b"1:2:4755:file"),
        (Override(0, 0, stat.S_IFDIR | 0o700), b"0:0:0700:dir"),
        (Override(0, 0, stat.S_IFCHR | 0o666, os.makedev(1, 3)), b"0:0:0666:char-1-3"),
        (Override(0, 0, stat.S_IFBLK, os.makedev(8, 0)), b"0:0:0000:block-8-0"),
        (Override(0, 0, stat.S_IFLNK | 0o777), b"0:0:0777:symlink"),
    ],
)
def test_override_of_containers_storage(override: Override, value: bytes) -> None:
    assert override.encode() == value
    assert Override.decode(value) == override


def test_override_of_fuse_overlayfs_has_no_type() -> None:
    assert Override.decode(b"5:6:755") == Override(5, 6, 0o755)
    assert Override.decode(b"5:6:104755") == Override(5, 6, 0o4755), "with bits of a type"


def test_a_device_with_what_is_not_invented_yet() -> None:
    found = Override.decode(b"5:6:0600:block-3-4-later")
    assert found == Override(5, 6, stat.S_IFBLK | 0o600, os.makedev(3, 4))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"1",
        b"1:2",
        b"a:b:c",
        b"1:2:9",
        b"1:2:755:x",
        b"\xff",
        "1:٣:755".encode(),
        b"+1:2:755",
        b"1:2_0:755",
        b"1:2: 7",
        b"1:2:755:block-1",
        b"1:2:755:file-1-2",
        b"1:2:755:char-1-99999999999",
        b"4294967295:0:755",
    ],
)
def test_overrides_that_make_no_sense(value: bytes) -> None:
    assert Override.decode(value) is None
