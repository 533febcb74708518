"""`pyunion offer`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layerstore import Image
from tests.helpers.cli import Cli
from tests.helpers.mounts import require_root


@pytest.mark.usefixtures("base", "child")
def test_all_images_with_a_name_or_those_named(cli: Cli, base: Image, tmp_path: Path) -> None:
    require_root()
    there = tmp_path / "offered"
    assert cli.ok("offer", str(there)) == f"2 images are offered in {there}\n"
    assert cli.ok("offer", str(there), "busy:1") == f"1 image is offered in {there}\n"
    (line,) = json.loads((there / "overlay-images/images.json").read_text())
    assert line["id"] == base.id.encoded


def test_refusals(cli: Cli, tmp_path: Path) -> None:
    assert cli.fails("offer").startswith('"pyunion offer" requires at least 1 argument.\n')
    assert "No such image: nope" in cli.fails("offer", str(tmp_path / "x"), "nope")
