"""`pyunion check --repair` by an ordinary user, of a layer with a directory closed even to them."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from tests.helpers.as_user import NOBODY
from tests.helpers.users import as_user, give, home_of_a_container_user


def _write(path: Path, mode: int) -> None:
    """Write an archive of a directory of `mode` with a file and an empty directory in it."""
    with tarfile.open(path, "w") as tar:
        for name, kind, its in (
            ("closed", tarfile.DIRTYPE, mode),
            ("closed/empty", tarfile.DIRTYPE, mode),
            ("closed/file", tarfile.REGTYPE, 0o600),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, its
            tar.addfile(member, io.BytesIO())


@pytest.mark.parametrize("mode", [0o555, 0o300, 0])
def test_a_closed_directory_is_put_right(mode: int) -> None:
    """What the repair moves away and makes again is in it.

    On the disk it is open to its owner, and an attribute has the mode: `check` compares both.
    """
    with home_of_a_container_user(["sh"]) as home:
        _write(home / "one.tar", mode)
        give(home)
        done = as_user(home, f"pyunion import {home}/one.tar one:1", "pyunion check")
        assert done.returncode == 0, done
        (closed,) = (home / "data/pyunion/layers").glob("*/diff/closed")
        (closed / "empty").rmdir()
        (closed / "stray").write_text("mine")
        (closed / "file").chmod(0o644)
        os.chown(closed / "stray", NOBODY, NOBODY)
        assert as_user(home, "pyunion check").returncode == 1
        done = as_user(home, "pyunion check --repair", "pyunion check")
        assert done.returncode == 0, done
        for directory in (closed, closed / "empty"):
            assert stat.S_IMODE(directory.stat().st_mode) == mode | 0o700
        assert stat.S_IMODE((closed / "file").stat().st_mode) == 0o600
        (stray,) = (home / "data/pyunion/quarantine").rglob("stray")
        assert stray.read_text() == "mine"
