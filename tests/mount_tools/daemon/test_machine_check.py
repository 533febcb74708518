"""What engine-check finds, by real mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mount_tools.daemon.machine_check import check_machine
from tests.helpers.mounts import require_fuse, require_root
from unionfs.syscalls.mountinfo import read_mounts


def test_what_works_on_a_machine_with_fuse(tmp_path: Path) -> None:
    require_fuse()
    require_root()
    found = {finding.name: finding for finding in check_machine(tmp_path)}
    for name in ("mount", "xattrs", "whiteouts", "ids", "force_mask"):
        assert found[name].works, found[name].says
    assert all(finding.says for finding in found.values())
    assert list(tmp_path.iterdir()) == []
    assert not any(str(tmp_path).encode() in mount.mount_point for mount in read_mounts())


def test_each_no_has_the_reason_of_the_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    found = check_machine(tmp_path)
    assert not found[0].works and "ended with 1" in found[0].says
