"""The requests an operation costs: counted by the kernel, and not more than they were."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping

import pytest

from benchmarks.requests import Count, shown
from tests.benchmarks.test_main import command
from tests.helpers.mounts import REPOSITORY

# The most of each opcode a file, on the 40 files in 13 directories of the tiny scale.
# What is not named here happens less than once in ten files.
BUDGETS: Mapping[str, Mapping[str, float]] = {
    "tar extract": {
        "LOOKUP": 1.35,
        "CREATE": 1.0,
        "RELEASE": 1.0,
        "MKDIR": 0.35,
        "SETATTR": 4.0,
        "GETATTR": 1.3,
        "GETXATTR": 2.0,
    },
    "find, first": {"READDIRPLUS": 0.7},
    "find, again": {"GETATTR": 0.35},
    "grep -r, first": {
        "OPEN": 1.0,
        "RELEASE": 1.0,
        "READ": 1.0,
        "READDIRPLUS": 0.7,
    },
    "grep -r, again": {"OPEN": 1.0, "RELEASE": 1.0, "GETATTR": 1.4},
}


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """The requests by opcode of each action, for PyUnion by dev_fuse."""
    there = tmp_path_factory.mktemp("requests")
    words = command(there, "--requests", "--only", "tar-extract,find,grep")
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    if "this kernel does not say what it sends" in done.stderr:
        pytest.skip("this kernel has no tracepoint fuse_request_send")
    assert done.returncode == 0, done.stderr
    document = json.loads((there / "out.requests.json").read_text())
    return {count["action"]: count["by_opcode"] for count in document["counts"]}


@pytest.mark.parametrize("action", BUDGETS)
def test_no_request_is_asked_more_often(counts: dict[str, dict[str, float]], action: str) -> None:
    allowed = BUDGETS[action]
    over = {
        opcode: number
        for opcode, number in counts[action].items()
        if number > allowed.get(opcode, 0.1)
    }
    assert not over, f"more than {allowed}"


def test_one_request_a_file_is_counted_once(counts: dict[str, dict[str, float]]) -> None:
    assert counts["tar extract"]["CREATE"] == 1.0


def test_counts_are_shown_by_action() -> None:
    text = shown(
        [
            Count("pyunion-dev", "find", "file", 3, {"LOOKUP": 1.0, "GETATTR": 0.5}),
            Count("mergerfs", "grep", "file", 2, {"OPEN": 1.0}),
            Count("mergerfs", "find", "file", 2, {"LOOKUP": 1.0}),
        ]
    )
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["find", "find", "grep"]
    assert "LOOKUP 1.00  GETATTR 0.50" in text
