"""The floors: they get the requests that we get, and `test_main` has them do the work.

That in C is compiled.
"""

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


SUBJECTS = ("pyunion-dev", "floor-dev", "floor-python-dev", "least-union-dev")


def counted(where: Path) -> list[dict[str, int]]:
    """Return how many requests each action took, for each of `SUBJECTS`."""
    words = ["--requests", "--rows", "--only", "names,copy-up", "--subjects", ",".join(SUBJECTS)]
    done = subprocess.run(command(where, *words), cwd=REPOSITORY, capture_output=True, text=True)
    if "this kernel does not say what it sends" in done.stderr:
        pytest.skip("this kernel has no tracepoint fuse_request_send")
    assert done.returncode == 0, done.stderr
    counts = json.loads((where / "out.requests.json").read_text())["counts"]
    return [
        {count["action"]: count["total"] for count in counts if count["subject"] == name}
        for name in SUBJECTS
    ]


def close_to(counts: dict[str, int]) -> dict[str, object]:
    return {action: pytest.approx(total, rel=0.05, abs=3) for action, total in counts.items()}


def test_floors_get_the_requests_that_we_get(tmp_path: Path) -> None:
    ours, *floors = counted(tmp_path)
    for _ in range(2):  # another process may have dropped the caches of the machine meanwhile
        if floors != [close_to(ours)] * len(floors):
            ours, *floors = counted(tmp_path)
    assert floors == [close_to(ours)] * len(floors)


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
