"""The user of a benchmark: who runs the command, and what it finds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benchmarks.ordinary_user import UID, OrdinaryUser
from tests.helpers.mounts import require_root


def test_a_command_runs_as_the_user_with_sub_ids(tmp_path: Path) -> None:
    require_root()
    (tmp_path / "there").write_text("before")
    user = OrdinaryUser(tmp_path)
    before = Path("/etc/passwd").read_bytes()
    line = "id -u; id -un; cat /etc/subuid"
    done = subprocess.run(user.words("sh", "-c", line), capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(UID), "bench", "bench:700000:65536"]
    assert os.stat(tmp_path / "there").st_uid == UID
    assert Path("/etc/passwd").read_bytes() == before
    assert Path(user.environment["XDG_RUNTIME_DIR"]).stat().st_mode & 0o777 == 0o700
