"""What stands around a run: the directory, the kernel's setting, the namespaces.

That nothing stays behind when a signal ends a run is in `test_main`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import isolation
from tests.helpers.mounts import require_root


def test_setting_is_put_back_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "enable_uring"
    switch.write_text("N\n")
    monkeypatch.setattr(isolation, "URING", switch)
    with pytest.raises(KeyboardInterrupt), isolation.uring_restored():
        switch.write_text("Y")
        raise KeyboardInterrupt
    assert switch.read_text() == "N\n"


def test_kernel_without_the_setting_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "URING", tmp_path / "nothing")
    with isolation.uring_restored():
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_subjects_make_is_placed_apart(tmp_path: Path) -> None:
    kind = subprocess.run(["stat", "-fc", "%T", tmp_path], stdout=subprocess.PIPE, check=True)
    isolation.spread(tmp_path)
    if kind.stdout != b"ext2/ext3\n":
        pytest.skip("only these have the flag")
    shown = subprocess.run(["lsattr", "-d", tmp_path], stdout=subprocess.PIPE, check=True)
    assert b"T" in shown.stdout.split()[0]


def test_status_is_that_of_the_run_and_its_directory_goes(tmp_path: Path) -> None:
    require_root()
    assert isolation.run_isolated(["--list"], tmp_path) == 0
    assert isolation.run_isolated(["--no-such-option"], tmp_path) == 2
    assert list(tmp_path.iterdir()) == []
