"""The session of the engines: how a row is timed, and which words are refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks import engines
from benchmarks.builds import Taken
from benchmarks.engines import ROWS, Engine, main, markdown, timed
from benchmarks.stores import REPOSITORY


def test_a_row_is_timed_between_its_stops(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "engine", None, as_user=False)
    steps = []

    def row(engine: Engine, given: Path, number: int) -> Iterator[None]:
        steps.append(f"prepare {number}")
        yield
        begun = time.perf_counter()
        while time.perf_counter() - begun < 0.02:
            pass
        yield
        steps.append("tidy up")

    seconds = timed(engine, row, tmp_path, 3)
    assert seconds >= 0.02
    assert steps == ["prepare 3", "tidy up"]


def test_a_row_may_measure_by_itself(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "engine", None, as_user=False)

    def row(engine: Engine, given: Path, number: int) -> Iterator[None]:
        yield
        engine.measured = 7.0
        yield

    assert timed(engine, row, tmp_path, 0) == 7.0
    assert timed(engine, lambda *_: iter((None, None)), tmp_path, 0) < 7.0


def test_a_store_has_its_mount_program(tmp_path: Path) -> None:
    Engine(tmp_path / "native", None, as_user=False)
    Engine(tmp_path / "fuse", "/bin/mounter", as_user=False)
    assert "mount_program" not in (tmp_path / "native/storage.conf").read_text()
    assert 'mount_program = "/bin/mounter"' in (tmp_path / "fuse/storage.conf").read_text()


def test_words_that_are_no_row_or_subject(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--rows", "nope"], ["--subjects", "aufs"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
    assert "no such subject or row" in capsys.readouterr().err
    assert {"mount", "cached", "commit"} <= set(ROWS)


def test_results_side_by_side() -> None:
    def result(user: str, seconds: float) -> dict[str, object]:
        by_name = {"pyunion": {"median": seconds}, "native": {"median": 0.0123}}
        return {"about": {"user": user}, "rows": {"read": by_name}}

    assert markdown([result("root", 1.234), result("ordinary", 2.0)]).splitlines() == [
        "| | native, root | fuse-overlayfs, root | pyunion, root "
        "| native, ordinary | fuse-overlayfs, ordinary | pyunion, ordinary |",
        "|---|---|---|---|---|---|---|",
        "| read | 0.012 |  | 1.23 | 0.012 |  | 2.00 |",
    ]


def test_the_table_in_the_readme_is_that_of_the_results() -> None:
    """Root's results are there once they are measured; root comes first."""
    files = sorted((REPOSITORY / "benchmarks/results").glob("engines-*.json"))
    results = [json.loads(path.read_text()) for path in files]
    assert {"root": "root", "ordinary": "user"}.items() >= {
        (result["about"]["user"], path.stem.removeprefix("engines-"))
        for path, result in zip(files, results, strict=True)
    }
    assert markdown(results) in (REPOSITORY / "README.md").read_text()


def test_results_of_a_run_become_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `--out` leaves them for root and for an ordinary user."""

    def measure(*given: object, as_user: bool) -> Taken:
        return {"read": {"native": [0.5], "pyunion": [2.0, 4.0, 3.0 + as_user]}, "git": {}}

    monkeypatch.setattr(engines, "measure", measure)
    monkeypatch.setattr(engines, "device_for", nullcontext)
    files = [str(tmp_path / name) for name in ("root.json", "user.json")]
    for words, file in zip(([], ["--user"]), files, strict=True):
        assert main([*words, "--rootfs", str(tmp_path), "--out", file]) == 0
    capsys.readouterr()
    assert main(["--markdown", *files]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.split(" | ")[3:5] == ["pyunion, root", "native, ordinary"]
    assert row == "| read | 0.50 |  | 3.00 | 0.50 |  | 4.00 |"
