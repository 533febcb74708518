"""The store is created by what fills it, and by nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from layerstore.errors import NotFound, StoreError
from mount_tools.cli.errors import Exit
from mount_tools.cli.invocation import Invocation
from tests.helpers.cli import Cli

PYUNION = Path(sys.executable).with_name("pyunion")

READING = [
    *("images", "ps -a", "layers", "info", "system df", "check", "prune -f", "history x"),
    *("inspect x", "diff x", "which /x x", "save x", "export x", "commit x"),
    *("create --pull never x", "run --pull never x true"),
    *("exec x true", "start x", "stop x", "rm x", "rmi x", "tag x y"),
    *("mount x /mnt", "umount x"),
]


@pytest.mark.parametrize("line", READING)
def test_a_root_that_was_named_must_exist(tmp_path: Path, line: str) -> None:
    cli = Cli(tmp_path / "typo")
    result = cli(*line.split())
    assert result.status == (125 if line.startswith("run") else 1)
    assert result.out == ""
    assert f"Error: there is no store at {tmp_path}/typo; `pyunion pull`, `build`" in result.err
    assert not cli.root.exists()


def test_a_root_of_the_environment_was_named_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [PYUNION, "images"],
        env={**os.environ, "PYUNION_ROOT": str(tmp_path / "typo")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no store at" in done.stderr
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("images", 0, "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"),
        ("ps -q", 0, ""),
        ("info --format {{.Root}}", 0, "{root}\n"),
        ("inspect x", 1, "[]\nError: No such object: x\n"),
        ("run --pull never x true", 125, "Error: No such image: x:latest\n"),
        ("history x", 1, "Error: No such image: x:latest\n"),
    ],
)
def test_a_default_store_that_is_missing_is_empty(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    line: str,
    status: int,
    said: str,
) -> None:
    from mount_tools.cli.main import main

    monkeypatch.delenv("PYUNION_ROOT", raising=False)
    monkeypatch.setattr("layerstore.store.default_root", lambda: tmp_path / "default")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert main(line.split()) == status
    printed = capfd.readouterr()
    assert printed.out + printed.err == said.format(root=tmp_path / "default")
    assert list(tmp_path.iterdir()) == []


def test_what_needs_no_store_needs_no_place_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    no_home = Mock(side_effect=StoreError("no home"))
    monkeypatch.setattr("layerstore.store.default_root", no_home)
    invocation = Invocation(None)
    with pytest.raises(StoreError, match="no home"):
        _ = invocation.store
    invocation.close()


def test_import_creates_the_store(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    cli = Cli(tmp_path / "made/store")
    cli.ok("import", "-q", str(tmp_path / "tree"), "new:1")
    assert cli.ok("images", "--format", "{{.Repository}}") == "new\n"


def test_one_failure_does_not_stop_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    done = []

    def act(name: str) -> None:
        if name != "good":
            raise NotFound(f"No such thing: {name}") if name == "gone" else StoreError(name)
        done.append(name)

    invocation = Invocation("/nowhere")
    invocation.each(["gone", "good"], act, harmless=(NotFound,))
    with pytest.raises(Exit) as raised:
        invocation.each(["bad", "gone", "good"], act, harmless=(NotFound,))
    assert raised.value.status == 1
    assert done == ["good", "good"]
    assert capsys.readouterr().err == (
        "Error: No such thing: gone\nError: bad\nError: No such thing: gone\n"
    )
