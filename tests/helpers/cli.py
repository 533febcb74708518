"""`pyunion` called in this process on a store of its own."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import NamedTuple

from layerstore import Store
from layerstore.oci.documents import JSON
from mount_tools.cli.main import main


class Result(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


class Cli:
    """The command line, with --root said already, and --no-sync unless `sync`."""

    def __init__(self, root: Path, *, sync: bool = False) -> None:
        self.root = root
        self._common = ("--root", str(root), *(() if sync else ("--no-sync",)))

    def __call__(self, *words: str, given: str | bytes = "") -> Result:
        """Run one command with `given` on its stdin."""
        out, err = io.BytesIO(), io.BytesIO()
        stdout = io.TextIOWrapper(out, encoding="utf-8")
        stderr = io.TextIOWrapper(err, encoding="utf-8")
        stdin = sys.stdin
        typed = given.encode() if isinstance(given, str) else given
        sys.stdin = io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8")
        try:
            with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                status = main([*self._common, *words])
        finally:
            sys.stdin = stdin
        stdout.flush()
        stderr.flush()
        return Result(status, _text(out), _text(err))

    def ok(self, *words: str, given: str | bytes = "") -> str:
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


def _text(printed: io.BytesIO) -> str:
    return printed.getvalue().decode("utf-8", "surrogateescape")
