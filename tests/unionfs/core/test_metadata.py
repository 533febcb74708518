"""Copying owner, attributes, mode and times of a file."""

from __future__ import annotations

import os
from pathlib import Path

from unionfs.core.metadata import copy_metadata, set_xattr

NS = 1_000_000_000_000_000_007


def test_mode_times_and_only_wanted_attributes_are_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"")
    target.write_bytes(b"")
    os.setxattr(source, "user.kept", b"1")
    os.setxattr(source, "user.left", b"2")
    source.chmod(0o640)
    os.utime(source, ns=(NS, NS + 1))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        copy_metadata(
            (fd, b"source"),
            (fd, b"target"),
            source.stat(),
            lambda name: name == "user.kept",
            {"user.mark": b"m"},
        )
    finally:
        os.close(fd)
    found = target.stat()
    assert (found.st_mode & 0o7777, found.st_atime_ns, found.st_mtime_ns) == (0o640, NS, NS + 1)
    assert sorted(os.listxattr(target)) == ["user.kept", "user.mark"]


def test_an_attribute_that_a_link_cannot_have_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        set_xattr((fd, b"link"), "user.note", b"x")
    finally:
        os.close(fd)
    assert os.listxattr(tmp_path / "link", follow_symlinks=False) == []
