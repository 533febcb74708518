"""`pyunion offer`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from layerstore import Image, Store
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


@pytest.mark.usefixtures("base", "child")
def test_an_image_that_has_lost_a_layer(cli: Cli, base: Image, tmp_path: Path) -> None:
    """The others are offered all the same; the engine may have removed a layer of its own."""
    require_root()
    with Store.open(cli.root) as store:
        top = next(image.top for image in store.images.all() if image.id != base.id)
        lost = store.layers.chain(top)[0]
    shutil.rmtree(lost.path)
    said = cli("offer", str(tmp_path / "offered"))
    assert said.status == 0
    assert said.out == f"1 image is offered in {tmp_path}/offered\n"
    assert said.err.startswith("docker.io/library/changed:1 ")
    assert f" is not offered: the layer {lost.chain_id.short} has lost its files" in said.err


def test_refusals(cli: Cli, tmp_path: Path) -> None:
    assert cli.fails("offer").startswith('"pyunion offer" requires at least 1 argument.\n')
    assert "No such image: nope" in cli.fails("offer", str(tmp_path / "x"), "nope")
