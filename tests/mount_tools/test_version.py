"""The version is that of what is installed, found without importlib.metadata."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from mount_tools.version import own_version


def test_the_version_is_that_of_the_metadata() -> None:
    assert own_version() == metadata.version("pyunion")


def test_the_first_one_on_the_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at, version in enumerate(("1.2.post3", "4")):
        directory = tmp_path / str(at)
        (directory / f"pyunion-{version}.dist-info").mkdir(parents=True)
        (directory / "pyunion_more-9.dist-info").mkdir()
    archive = tmp_path / "lib.zip"
    archive.touch()
    monkeypatch.setattr(sys, "path", [str(archive), str(tmp_path / "0"), str(tmp_path / "1")])
    assert own_version() == "1.2.post3"


def test_an_egg_has_its_version_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    egg = tmp_path / "pyunion.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: pyunion\nVersion: 7.8\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert own_version() == "7.8"


def test_a_checkout_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert own_version() == "of an uninstalled checkout"
