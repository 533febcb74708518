"""Doing without CAP_FSETID for a moment."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

from tests.helpers.mounts import require_root
from unionfs.credentials import Credentials
from unionfs.syscalls.lowered import WithoutFsetid


def test_the_kernel_takes_suid_from_what_is_written_meanwhile(tmp_path: Path) -> None:
    require_root()
    path = tmp_path / "file"
    path.write_bytes(b"data")
    for mode, left in ((0o6755, 0o755), (0o2666, 0o666)):
        path.chmod(mode)
        with open(path, "r+b", buffering=0) as file:
            file.write(b"by root")
            assert stat.S_IMODE(path.stat().st_mode) == mode
            with WithoutFsetid():
                file.write(b"without")
        assert stat.S_IMODE(path.stat().st_mode) == left


def test_the_thread_has_its_rights_back_afterwards() -> None:
    require_root()
    thread = Credentials(threading.get_native_id(), os.getegid())
    groups = os.getgroups()
    with WithoutFsetid():
        assert not thread.keeps_suid()
        assert os.getgroups() == []
    assert thread.keeps_suid()
    assert os.getgroups() == groups
