"""A store on a medium that is read-only: what reads it works, what writes says why it cannot."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.cli import Cli
from tests.helpers.mounts import require_root

_READING = [
    ("images",),
    ("inspect", "busy:1"),
    ("history", "busy:1"),
    ("layers",),
    ("ps", "-a"),
    ("inspect", "box"),
    ("container", "ls"),
    ("volume", "ls"),
    ("info",),
    ("check",),
    ("system", "df"),
    ("save", "busy:1"),
    ("export", "box"),
    ("diff", "box"),
]
_WRITING = [
    ("tag", "busy:1", "busy:2"),
    ("rmi", "-f", "busy:1"),
    ("create", "busy:1", "sh"),
    ("rm", "box"),
    ("rename", "box", "more"),
    ("commit", "box", "busy:2"),
    ("volume", "create", "data"),
    ("system", "prune", "-f"),
    ("start", "-a", "box"),
    ("restart", "box"),
    ("mount", "box", "/mnt"),
    ("cp", "box:/file", "/dev/null"),
    ("cp", "/etc/hostname", "box:/file"),
    ("restore", "box", "/file"),
]


@pytest.fixture(params=["closed", "left open"])
def medium(request: pytest.FixtureRequest, cli: Cli, tmp_path: Path) -> Iterator[Cli]:
    """The store with a container box, mounted read-only; with a WAL if it was left open."""
    require_root()
    with tarfile.open(tmp_path / "busy.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("file"))
    cli.ok("import", "-q", os.fspath(tmp_path / "busy.tar"), "busy:1")
    cli.ok("create", "--name", "box", "busy:1", "sh")
    left = cli.store()
    if request.param == "closed":
        left.close()
        for path in cli.root.glob("store.db-*"):
            path.unlink()
    try:
        subprocess.run(["mount", "--bind", cli.root, cli.root], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", cli.root], check=True)
        yield cli
    finally:
        subprocess.run(["umount", "-l", cli.root], check=False)
        if request.param != "closed":
            left.close()


def test_what_reads_works(medium: Cli, tmp_path: Path) -> None:
    out = os.fspath(tmp_path / "out.tar")
    for words in _READING:
        medium.ok(*words, *(("-o", out) if words[0] in ("save", "export") else ()))


@pytest.mark.parametrize("words", _WRITING, ids=" ".join)
def test_what_writes_says_why_it_cannot(medium: Cli, words: tuple[str, ...]) -> None:
    said = medium.fails(*words, status=125 if words[0] == "start" else 1)
    assert "is mounted read-only; mount it writable, or copy the store to another --root" in said
    assert len(said.splitlines()) == 1
