"""Completion in the shell, as bash asks for it."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore import Image
from mount_tools.cli.main import main
from tests.helpers.cli import Cli

PYUNION = Path(sys.executable).with_name("pyunion")


def asked(root: Path, *words: str) -> dict[str, str]:
    """Return the environment in which bash starts the command to complete `words`."""
    return {
        "COMP_TYPED": " ".join(("pyunion", *words)),
        "COMP_CURRENT": words[-1],
        "PYUNION_ROOT": str(root),
        "_PYUNION_COMPLETE": "bash_complete",
    }


def completed(root: Path, *words: str) -> list[str]:
    said = io.BytesIO()
    stdout = io.TextIOWrapper(said, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(stdout):
        for name, value in asked(root, *words).items():
            patched.setenv(name, value)
        assert main([]) == 0
        stdout.flush()
    return said.getvalue().decode().split()


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


@pytest.mark.usefixtures("base")
def test_the_command_itself_answers(cli: Cli) -> None:
    env = {**os.environ, **asked(cli.root, "rmi", "b")}
    done = subprocess.run([PYUNION], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,busy:1\n", "")


def test_no_store_no_names(tmp_path: Path) -> None:
    assert completed(tmp_path / "nope", "rmi", "b") == []
    assert not (tmp_path / "nope").exists()
