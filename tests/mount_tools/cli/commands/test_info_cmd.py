"""`pyunion version` and `pyunion info`."""

from __future__ import annotations

import json
from importlib import metadata

from layerstore import Image
from tests.helpers.cli import Cli

VERSION = metadata.version("pyunion")


def test_the_version_in_all_its_forms(cli: Cli) -> None:
    assert cli.ok("--version") == f"PyUnion version {VERSION}\n"
    assert cli.ok("version", "-f", "{{.Version}}") == f"{VERSION}\n"
    assert cli.ok("version").startswith(f"Version:  {VERSION}\n")


def test_the_store(cli: Cli, child: Image) -> None:
    assert cli.ok("info", "-f", "{{.Root}} {{.Images}} {{.Layers}}") == f"{cli.root} 2 2\n"
    assert json.loads(cli.ok("system", "info", "--json"))["Sync"] is False
