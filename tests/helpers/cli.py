"""`pyunion` called in this process on a store of its own."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import NamedTuple

from layerstore import Store
from layerstore.image_config import JSON
from mount_tools.cli.main import main


class Result(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


class Cli:
    """The command line, with --root and --no-sync said already."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *words: str, given: str = "") -> Result:
        """Run one command with `given` on its stdin."""
        out, err = io.StringIO(), io.StringIO()
        stdin = sys.stdin
        sys.stdin = io.StringIO(given)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main(["--root", str(self.root), "--no-sync", *words])
        finally:
            sys.stdin = stdin
        return Result(status, out.getvalue(), err.getvalue())

    def ok(self, *words: str, given: str = "") -> str:
        """Run a command that is to work and say nothing on stderr; return what it printed."""
        result = self(*words, given=given)
        assert (result.status, result.err) == (0, ""), result
        return result.out

    def fails(self, *words: str, status: int = 1) -> str:
        """Run a command that is to fail; return what it said on stderr."""
        result = self(*words)
        assert result.status == status, result
        assert "Traceback" not in result.err
        assert "a bug in PyUnion" not in result.err
        return result.err

    def json(self, *words: str) -> JSON:
        """Run a command with `--json`; return what it printed."""
        found: JSON = json.loads(self.ok(*words, "--json"))
        return found

    def store(self) -> Store:
        """Open the store, to look behind the command's back."""
        return Store.open(self.root, sync=False)
