"""Completion in the shell, as bash asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore import Image
from tests.helpers.cli import Cli

PYUNION = Path(sys.executable).with_name("pyunion")


def completed(root: Path, *words: str) -> list[str]:
    asked = {"COMP_WORDS": " ".join(("pyunion", *words)), "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        [PYUNION],
        env={
            **os.environ,
            **asked,
            "PYUNION_ROOT": str(root),
            "_PYUNION_COMPLETE": "bash_complete",
        },
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.split()]


@pytest.mark.usefixtures("child")
def test_commands_flags_and_names(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        store.containers.create(base, name="box")
    assert completed(cli.root, "imag") == ["image", "images"]
    assert completed(cli.root, "image", "hi") == ["history"]
    assert completed(cli.root, "images", "--dig") == ["--digests"]
    assert completed(cli.root, "rmi", "b") == ["busy:1"]
    assert completed(cli.root, "rm", "") == ["box"]
    assert completed(cli.root, "inspect", "b") == ["box", "busy:1"]


def test_no_store_no_names(tmp_path: Path) -> None:
    assert completed(tmp_path / "nope", "rmi", "b") == []
    assert not (tmp_path / "nope").exists()
