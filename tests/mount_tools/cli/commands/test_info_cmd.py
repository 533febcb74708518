"""`pyunion version` and `pyunion info`."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest

from layerstore import Image
from tests.helpers.cli import Cli
from tests.mount_tools.cli.commands.conftest import at_home

VERSION = metadata.version("pyunion")


def test_the_version_in_all_its_forms(cli: Cli) -> None:
    assert cli.ok("--version") == f"PyUnion version {VERSION}\n"
    assert cli.ok("version", "-f", "{{.Version}}") == f"{VERSION}\n"
    assert cli.ok("version").startswith(f"Version:  {VERSION}\n")


def test_the_store(cli: Cli, child: Image) -> None:
    assert cli.ok("info", "-f", "{{.Root}} {{.Images}} {{.Layers}}") == f"{cli.root} 2 2\n"
    printed = cli.ok("system", "info", "--json")
    found = json.loads(printed)
    assert printed.startswith('{\n  "Root"') and printed.endswith("\n}\n")
    assert found["Sync"] is False and found["DiskFree"] > 0
    assert re.search(r"^DiskFree: +[0-9.]+[kMGTP]?B$", cli.ok("info"), re.M)


def test_what_configures_registries_is_listed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = at_home(tmp_path, monkeypatch)
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(home / "registries.conf"))
    (home / "registries.conf").write_text("[[registry]]\nlocation = 'x.test'\n")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    listed = json.loads(cli.ok("info", "--json"))["Registries"]
    assert f"{home}/registries.conf (registries)" in listed
    assert any("PROXY" in line for line in listed)
    assert f"\n{'':20}{listed[1]}\n" in cli.ok("info")
    (home / "registries.conf").write_text("nonsense")
    (line,) = json.loads(cli.ok("info", "--json"))["Registries"]
    assert line.startswith(f"error: {home}/registries.conf")
