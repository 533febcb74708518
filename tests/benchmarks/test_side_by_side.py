"""Stores side by side: who is whose turn, what is timed, and what is said of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.side_by_side import (
    Makers,
    Said,
    Series,
    Taken,
    as_json,
    fill_up,
    in_turns,
    table,
    timed,
)
from benchmarks.stores import Store


class Subject:
    def __init__(self, store: Store, given: str, scratch: Path) -> None:
        assert given == "given" and scratch.is_dir()
        self.store = store


def refused(base: Path) -> Store:
    raise RuntimeError("it does not start")


MAKERS: Makers[str, Subject] = {
    "one": (lambda base: Store("true"), Subject),
    "other": (lambda base: Store("true"), Subject),
    "none": (refused, Subject),
}


def test_the_first_subject_changes_with_the_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: Taken = {"row": {}}
    turns: list[tuple[str, int]] = []

    def work(name: str, subject: Subject, number: int) -> None:
        turns.append((name, number))
        timed(taken, "row", name, subject.store, subject.store.command)

    in_turns(MAKERS, tmp_path, "given", [*MAKERS], 2, work)
    assert turns == [("one", 0), ("other", 0), ("other", 1), ("one", 1)]
    assert {name: len(series.seconds) for name, series in taken["row"].items()} == {
        "one": 2,
        "other": 2,
    }
    assert capsys.readouterr().out == "none: left out: it does not start\n"


def test_the_tree_is_filled_up(tmp_path: Path) -> None:
    (tmp_path / "rootfs/usr").mkdir(parents=True)
    (tmp_path / "rootfs/usr/file").write_bytes(b"x" * 100_000)
    fill_up(tmp_path / "rootfs", tmp_path / "made", 250_000)
    files = [path.relative_to(tmp_path / "made") for path in (tmp_path / "made").rglob("file")]
    assert sorted(map(str, files)) == ["srv/copy1/usr/file", "srv/copy2/usr/file", "usr/file"]


def test_what_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(name, "1")
    words = ["--quick", "--subjects", "one,none", "--out", str(tmp_path / "new/file")]
    said = Said.of(words, "One line.\nMore.", [*MAKERS], "never", quick=3)
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ
    assert (said.rounds, said.names, said.megabytes) == (3, ["one", "none"], 600)
    said.report({"row": {"one": Series([1.0], [0.5])}}, {"one": "bash", "other": "x"}, bytes=7)
    about = json.loads((tmp_path / "new/file").read_text())["about"]
    assert about["bytes"] == 7 and about["versions"].keys() == {"one"} and about["rounds"] == 3
    assert "1.00 s" in capsys.readouterr().out


def test_table_and_json() -> None:
    taken = {
        "import": {
            "pyunion": Series([1.0, 2.0, 9.0], [0.5, 0.5, 0.5]),
            "umoci": Series([8.0], [1]),
        },
        "save": {"pyunion": Series([3.0], [2.0])},
    }
    lines = [line.split() for line in table(taken, ["pyunion", "umoci"]).splitlines()]
    assert lines == [
        ["pyunion", "umoci"],
        ["import", "2.00", "s", "1.00x", "8.00", "s", "4.00x"],
        ["cpu", "0.50", "s", "1.00x", "1.00", "s", "2.00x"],
        ["save", "3.00", "s", "1.00x", "-"],
        ["cpu", "2.00", "s", "1.00x", "-"],
    ]
    written = json.loads(as_json(taken, {"rounds": 3}))
    assert written["about"] == {"rounds": 3}
    assert written["rows"]["import"]["pyunion"] == {
        "median": 2.0,
        "cpu_median": 0.5,
        "seconds": [1.0, 2.0, 9.0],
        "cpu": [0.5, 0.5, 0.5],
    }
