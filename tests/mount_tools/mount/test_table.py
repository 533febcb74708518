"""The mount table answers without touching the mounts."""

from __future__ import annotations

import os
from pathlib import Path

from mount_tools.mount.table import device_on


def test_the_root_is_a_mount() -> None:
    st = os.stat("/")
    device = device_on("/")
    assert device is not None
    # Some filesystems show stat(2) another device than the table; the form holds for all.
    assert device.count(":") == 1
    assert st.st_dev


def test_a_plain_directory_is_none(tmp_path: Path) -> None:
    assert device_on(str(tmp_path)) is None


def test_odd_names_and_the_topmost_of_several(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(
        b"1 0 8:1 / / rw - ext4 /dev/a rw\n"
        b"2 1 0:40 / /m\\040nt\\134 rw - fuse.pyunion a rw\n"
        b"3 2 0:41 / /m\\040nt\\134 rw - fuse.pyunion b rw\n"
    )
    assert device_on("/m nt\\", str(table)) == "0:41"
    assert device_on("/m", str(table)) is None


def test_without_proc_there_is_no_answer(tmp_path: Path) -> None:
    assert device_on("/", str(tmp_path / "gone")) is None
