"""A leaked object fails the test that leaked it, and no other; tests are on a disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.mounts import DEADLINE, require_root

REPOSITORY = Path(__file__).parent.parent

LEAKING = """
import warnings
import pytest

class Leaked:
    def __init__(self):
        self.cycle = self
    def __del__(self):
        warnings.warn("it was not closed", ResourceWarning)

@pytest.fixture
def small():
    return Leaked()

@pytest.fixture(scope="module")
def broad():
    return Leaked()

def test_1(): ...
def test_2_leaks(): Leaked()
def test_3(): ...
def test_4_leaks(small): ...
def test_5(): ...
def test_6(broad): ...
def test_7_leaks(broad): ...
"""


def test_a_leak_fails_the_test_that_leaks(tmp_path: Path) -> None:
    for name in ("test_one.py", "test_two.py"):
        (tmp_path / name).write_text(LEAKING)
    command = [sys.executable, "-m", "pytest", "-q", "-rE", "--tb=no", "-p", "no:cacheprovider"]
    command += ["-c", f"{REPOSITORY}/setup.cfg", f"--rootdir={tmp_path}", "-p", "tests.conftest"]
    done = subprocess.run(
        [*command, tmp_path], cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE
    )
    failed = [line.split("::")[1][:6] for line in done.stdout.splitlines() if "ERROR" in line]
    assert failed == ["test_2", "test_4", "test_7"] * 2, done.stdout


def test_temporary_files_are_on_a_disk(tmp_path: Path) -> None:
    require_root()
    memory = tmp_path / "memory"
    memory.mkdir()
    asked = "import tempfile; from tests.conftest import keep_on_disk as keep; "
    asked += f'tempfile.tempdir = "{memory}"; keep(); print(tempfile.gettempdir())'
    python = f"{sys.executable} -c '{asked}'"
    script = f"unset TMPDIR; mount -t tmpfs tmp {memory}; {python}"
    script += f"; TMPDIR={memory} {python}; umount {memory}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.stdout.split() == ["/var/tmp", f"{memory}"], done.stderr
