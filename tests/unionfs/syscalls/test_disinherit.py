"""A new directory without what it has inherited."""

from __future__ import annotations

import os
from pathlib import Path

from tests.helpers.acls import ACL_OF_1234, DEFAULT_ACL
from unionfs.syscalls.disinherit import disinherit


def test_nothing_is_left_of_what_was_inherited(tmp_path: Path) -> None:
    os.setxattr(tmp_path, DEFAULT_ACL, ACL_OF_1234)
    tmp_path.chmod(0o2755)
    made = tmp_path / "made"
    made.mkdir(0o750)
    os.setxattr(made, "user.kept", b"1")
    assert made.stat().st_mode & 0o2000 and DEFAULT_ACL in os.listxattr(made)
    fd = os.open(made, os.O_RDONLY)
    disinherit(fd)
    os.close(fd)
    assert os.listxattr(made) == ["user.kept"] and made.stat().st_mode & 0o7777 == 0o750
