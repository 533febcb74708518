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
    asked = {"COMP_TYPED": " ".join(("pyunion", *words)), "COMP_CURRENT": words[-1]}
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
    return done.stdout.split()


@pytest.mark.usefixtures("child")
def test_commands_flags_and_names(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        store.containers.create(base, name="box")
    assert completed(cli.root, "imag") == ["plain,image", "plain,images"]
    assert completed(cli.root, "image", "hi") == ["plain,history"]
    assert completed(cli.root, "images", "--dig") == ["plain,--digests"]
    assert completed(cli.root, "rmi", "b") == ["plain,busy:1"]
    assert completed(cli.root, "rm", "") == ["plain,box"]
    assert completed(cli.root, "inspect", "b") == ["plain,box", "plain,busy:1"]
    assert completed(cli.root, "mount", "box", "/m") == ["file,/m"]
    assert completed(cli.root, "which", "/etc", "b") == ["plain,box", "plain,busy:1"]
    assert completed(cli.root, "which", "/e") == ["file,/e"]
    assert completed(cli.root, "commit", "-m", "x") == ["file,x"]
    assert completed(cli.root, "exec", "box", "-") == []
    assert completed(cli.root, "nope", "b") == []


def test_no_store_no_names(tmp_path: Path) -> None:
    assert completed(tmp_path / "nope", "rmi", "b") == []
    assert not (tmp_path / "nope").exists()
