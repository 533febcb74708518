"""How time is taken, and that no command can hold a run up."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.cell import Cell, Wrong, opened_cell
from benchmarks.layers import source_tree
from benchmarks.scale import TINY
from benchmarks.subjects import BY_NAME
from tests.helpers.mounts import wait_until

_SPIN = "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done"


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    stack = source_tree(tmp_path / "layers", 40)
    scale = replace(TINY, patience=0.2)
    with opened_cell(tmp_path, scale, BY_NAME["native"], stack) as opened:
        yield opened
    assert [path.name for path in tmp_path.iterdir()] == ["layers"]


def test_command_gives_what_it_printed(cell: Cell) -> None:
    assert cell.run("echo", "one") == "one\n"
    assert cell.timed("true") > 0


def test_failed_command_is_wrong_with_what_it_said(cell: Cell) -> None:
    with pytest.raises(Wrong, match=r"^cat ROOT/nothing ended with status 1: cat: ROOT/nothing"):
        cell.timed("cat", cell.root / "nothing")


def test_status_that_is_expected_is_good(cell: Cell) -> None:
    assert cell.run("false", good=(0, 1)) == ""


def test_command_that_is_not_there_is_wrong(cell: Cell) -> None:
    with pytest.raises(Wrong, match="no-such-command cannot be run"):
        cell.run("no-such-command")


def test_command_that_hangs_is_ended(cell: Cell) -> None:
    with pytest.raises(Wrong, match="took longer"):
        cell.run("sleep", "1000")


def test_together_takes_as_long_as_the_last_and_fails_with_any(cell: Cell) -> None:
    assert cell.timed_together(["true"], ["sleep", "0.05"]) >= 50
    with pytest.raises(Wrong, match="false ended with status 1"):
        cell.timed_together(["sleep", "0.05"], ["false"])


def test_processor_time_is_that_of_what_is_timed(cell: Cell) -> None:
    patient = replace(cell, scale=TINY)
    patient.run("sh", "-c", _SPIN)
    assert patient.cpu_ms == 0
    spun = patient.timed("sh", "-c", _SPIN)
    assert 0 < patient.cpu_ms < 1.5 * spun
    before = patient.cpu_ms
    patient.timed("sleep", "0.2")
    assert patient.cpu_ms - before < 100
    before = patient.cpu_ms
    assert patient.loop("miss", 10, cwd=cell.root) > 0
    assert 0 < patient.cpu_ms - before < 5, "the start of the client is not counted"


def test_processor_time_of_the_daemon_counts(tmp_path: Path) -> None:
    stack = source_tree(tmp_path / "layers", 40)
    with opened_cell(tmp_path, TINY, BY_NAME["native"], stack) as cell:
        daemon = subprocess.Popen(["sh", "-c", "while :; do :; done"])
        cell.mount.daemon = daemon
        try:
            wait_until(lambda: cell.timed("sleep", "0.02") > 0 and cell.cpu_ms > 50, "its share")
        finally:
            daemon.kill()
            daemon.wait()


@pytest.mark.parametrize("clients", [1, 2])
@pytest.mark.parametrize("loop", ["miss", "churn"])
def test_loops_leave_the_tree_as_it_was(cell: Cell, loop: str, clients: int) -> None:
    patient = replace(cell, scale=TINY)
    before = sorted(cell.root.rglob("*"))
    assert patient.loop(loop, 10, cwd=cell.root, clients=clients) > 0
    assert sorted(cell.root.rglob("*")) == before


def test_append_adds_a_line_to_each_file_and_counts_them(cell: Cell) -> None:
    patient = replace(cell, scale=TINY)
    patient.loop("append", 10, cwd=cell.root, token="alpha")
    assert all(f.read_text().endswith("\nappended\n") for f in cell.root.glob("alpha/*/src/*"))
    with pytest.raises(Wrong, match="10 files instead of 11"):
        patient.loop("append", 11, cwd=cell.root, token="alpha")
