"""A volatile mount as the kernel sees it, and a workdir that an engine removes at once."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.helpers.mounts import mounted_union, require, require_root

SYNCS = "fsync,fdatasync,syncfs,sync,sync_file_range,msync"


@pytest.mark.parametrize("option", ["volatile", "fsync=0", "fsync=1"])
def test_the_daemon_of_a_volatile_mount_makes_no_system_call_that_syncs(
    tmp_path: Path, option: str
) -> None:
    require_root()
    require(shutil.which("strace") is not None, "strace is not installed")
    lower, upper, work = (tmp_path / name for name in ("lower", "upper", "work"))
    for folder in (lower, upper, work):
        folder.mkdir()
    (lower / "file").write_bytes(b"x" * (2 << 20))
    trace = tmp_path / "trace"
    runner = ["strace", "-f", "--quiet=all", "-e", f"trace={SYNCS}", "-o", str(trace)]
    with mounted_union([lower], upper, work, [option], runner=runner) as union:
        at = union.root / "file"
        with at.open("ab") as file:
            file.write(b"y")
            file.flush()
            os.fsync(file)
        fd = os.open(union.root, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    # strace also shows system calls that it does not know, which are none of these.
    called = set(re.findall(r"(\w+)\(", trace.read_text())) & set(SYNCS.split(","))
    if option == "fsync=1":
        assert {"fsync", "syncfs"} <= called
    else:
        assert called == set()
        assert (work / "work/incompat/volatile").is_dir()


@pytest.mark.parametrize("option", ["volatile", "fsync=1"])
def test_removing_the_workdir_before_the_daemon_ends_is_no_error(
    tmp_path: Path, option: str
) -> None:
    """As podman does after umount(2); the log of the mount must stay without an error."""
    require_root()
    lower, upper, work = (tmp_path / name for name in ("lower", "upper", "work"))
    for folder in (lower, upper, work):
        folder.mkdir()
    (lower / "file").write_text("x")
    with mounted_union([lower], upper, work, [option]) as union:
        (union.root / "file").unlink()
        shutil.rmtree(work)
        union.unmount()  # which fails on an error in the log
    assert not work.exists()
