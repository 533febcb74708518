"""What a remount can change, without a mount; with one: helper/test_mount8.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from mount_tools.mount.option_grammar import OptionError
from mount_tools.mount.remount import is_remount, remount
from unionfs.errors import MountError


def test_a_remount_is_told_by_its_word() -> None:
    assert is_remount(["ro", "nosuid,remount"])
    assert not is_remount(["lowerdir=/remount,ro"])
    with pytest.raises(OptionError):
        is_remount(['context="open'])


@pytest.mark.parametrize("point", ["/proc", "{tmp}", "{tmp}/missing"])
def test_what_is_no_union_is_not_remounted(tmp_path: Path, point: str) -> None:
    with pytest.raises(MountError, match="not the mount point of a union"):
        remount(point.format(tmp=tmp_path), ["remount,ro"])
