"""What a step has changed in its upper."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mount_tools.build.step_end import describe_root, is_changed


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    made = tmp_path / "upper"
    made.mkdir(mode=0o755)
    return made


def test_an_entry_is_a_change(upper: Path) -> None:
    before = describe_root(upper)
    assert not is_changed(upper, before)
    (upper / "file").touch()
    assert is_changed(upper, before)


def test_attributes_of_the_root_are_a_change_and_its_times_are_none(upper: Path) -> None:
    before = describe_root(upper)
    os.utime(upper, ns=(1, 1))
    assert not is_changed(upper, before)
    os.setxattr(upper, "user.note", b"x")
    assert is_changed(upper, before)
    os.removexattr(upper, "user.note")
    upper.chmod(0o711)
    assert is_changed(upper, before)


def test_marks_of_overlayfs_are_no_change(upper: Path) -> None:
    before = describe_root(upper)
    os.setxattr(upper, "user.overlay.impure", b"y")
    assert not is_changed(upper, before)
