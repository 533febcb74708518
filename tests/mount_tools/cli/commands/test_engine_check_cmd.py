"""`pyunion engine-check`: a line for each thing, the reason for each no, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mount_tools.cli.main import main
from mount_tools.daemon import machine_check
from mount_tools.daemon.machine_check import Finding

FOUND = [Finding("mount", True, "it is live"), Finding("ids", False, "only root can")]


def test_a_line_for_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine_check, "check_machine", lambda directory: FOUND)
    assert main(["engine-check"]) == 0
    assert [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()] == [
        ["mount", "yes", "it is live"],
        ["ids", "no", "only root can"],
    ]


def test_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(machine_check, "check_machine", lambda directory: FOUND)
    assert main(["engine-check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1] == {
        "name": "ids",
        "works": False,
        "says": "only root can",
    }


def test_nothing_can_be_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        machine_check, "check_machine", lambda directory: [Finding("mount", False, "no device")]
    )
    assert main(["engine-check"]) == 1


def test_no_such_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine-check", "--dir", str(tmp_path / "none")]) == 1
    said = f"no scratch directory can be made in {tmp_path}/none: No such file or directory"
    assert said in capsys.readouterr().err
