"""The program run again from a read-only mount of its own file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.mounts import helper_environment, require_root

SCRIPT = """
import os, sys
from pathlib import Path
from mount_tools.container.read_only_program import run_read_only
print(sys.argv[1:], sys.stdin.buffer.raw.isatty(), bool(os.statvfs("/proc/self/exe").f_flag & 1))
sys.stdout.flush()
run_read_only(lambda: os.write(1, b"end\\n"))
name = Path("/proc/self/comm").read_text().strip()
print(os.access("/proc/self/exe", os.W_OK), name == os.path.basename(sys.orig_argv[0])[:15])
"""


def test_the_program_begins_again_with_the_same_words(tmp_path: Path) -> None:
    require_root()
    (tmp_path / "script").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script"), "a b", "--c"],
        env=helper_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    first, ended, second, last = done.stdout.splitlines()
    assert (first, ended) == ("['a b', '--c'] False False", "end")
    assert (second, last) == ("['a b', '--c'] False True", "False True")
