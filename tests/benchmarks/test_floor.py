"""The floor: it is compiled, and gets the requests that we get; `test_main` has it do the work."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import floor
from benchmarks.subjects import FLOORS
from tests.benchmarks.test_main import command
from tests.helpers.mounts import REPOSITORY


@pytest.fixture(autouse=True)
def needs_cc() -> None:
    if why := floor.why_not():
        pytest.skip(why)


def test_floor_gets_the_requests_that_we_get(tmp_path: Path) -> None:
    words = ["--requests", "--rows", "--only", "names,copy-up"]
    words += ["--subjects", "pyunion-dev,floor-dev"]
    done = subprocess.run(command(tmp_path, *words), cwd=REPOSITORY, capture_output=True, text=True)
    if "this kernel does not say what it sends" in done.stderr:
        pytest.skip("this kernel has no tracepoint fuse_request_send")
    assert done.returncode == 0, done.stderr
    counts = json.loads((tmp_path / "out.requests.json").read_text())["counts"]
    ours, theirs = (
        {count["action"]: count["total"] for count in counts if count["subject"] == name}
        for name in ("pyunion-dev", "floor-dev")
    )
    assert ours == {
        action: pytest.approx(total, rel=0.05, abs=3) for action, total in theirs.items()
    }


def test_floor_is_left_out_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "PROGRAM", tmp_path / "floor")
    monkeypatch.setenv("PATH", str(tmp_path))
    floor.why_not.cache_clear()
    try:
        assert floor.why_not() == "cc cannot be run: No such file or directory"
    finally:
        floor.why_not.cache_clear()


def test_floors_are_no_peers() -> None:
    assert [subject.name for subject in FLOORS if subject.is_peer] == []
