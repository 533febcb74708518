"""Images that engines read from an additional store, whose layers are those of this one."""

from __future__ import annotations

import base64
import errno
import json
import os
import signal
from pathlib import Path

import pytest

from layerstore.errors import Conflict
from layerstore.operations import offer as offer_module
from layerstore.operations.offer import offer
from layerstore.store import Store
from tests.helpers import children
from tests.helpers.images import add_image

pytestmark = pytest.mark.usefixtures("as_root")


def test_what_an_engine_looks_for(store: Store, tmp_path: Path) -> None:
    image = add_image(store, {"etc/motd": b"low"}, {"etc/new": b"high"}, names=["two:1"])
    there = tmp_path / "offered"
    offer(store, there, [image])
    layers = json.loads((there / "overlay-layers/layers.json").read_text())
    base, top = (layer["id"] for layer in layers)
    assert (layers[1]["parent"], "parent" in layers[0]) == (base, False)
    (line,) = json.loads((there / "overlay-images/images.json").read_text())
    assert (line["layer"], line["names"]) == (top, ["docker.io/library/two:1"])
    (short,) = (there / "overlay" / top / "lower").read_text().split(":")
    assert (there / "overlay" / short / "etc/motd").read_bytes() == b"low"
    link = (there / "overlay" / top / "link").read_text()
    assert (there / "overlay/l" / link / "etc/new").read_bytes() == b"high"
    diff = there / "overlay" / top / "diff"
    assert os.path.realpath(diff) == str(store.layers.chain(image.top)[0].diff)
    key = base64.b64encode(str(image.id).encode()).decode()
    config = (there / "overlay-images" / image.id.encoded / f"={key}").read_bytes()
    assert config == store.blobs.read(image.id)
    manifest = json.loads((there / "overlay-images" / image.id.encoded / "manifest").read_text())
    assert [layer["digest"] for layer in manifest["layers"]] == [
        layer["diff-digest"] for layer in layers
    ]


def test_a_later_offer_replaces_the_earlier_one(store: Store, tmp_path: Path) -> None:
    there = tmp_path / "offered"
    first = add_image(store, {"a": b"1"}, names=["a:1"])
    second = add_image(store, {"a": b"1"}, {"b": b"2"}, names=["b:1"])
    offer(store, there, [first, second])
    splits = {path.name: path.stat().st_ino for path in _splits(there)}
    assert len(json.loads((there / "overlay-layers/layers.json").read_text())) == 2
    offer(store, there, [first])
    assert len(list((there / "overlay").iterdir())) == 2, "one layer and the links"
    assert sorted(os.listdir(tmp_path)) == ["offered", "store"]
    (kept,) = _splits(there)
    assert kept.stat().st_ino == splits[kept.name], "made once, as it takes reading all files"
    assert len(splits) == 2


def _splits(offered: Path) -> list[Path]:
    return list((offered / "overlay-layers").glob("*.tar-split.gz"))


def test_a_directory_of_somebody_else_stays(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    with pytest.raises(Conflict, match="not a store that pyunion made"):
        offer(store, tmp_path / "mine", [])
    assert os.listdir(tmp_path / "mine") == ["file"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_killed_offer_leaves_nothing_for_good(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    """Also on a filesystem that cannot exchange two directories."""
    there = tmp_path / "offered"
    image = add_image(store, {"a": b"1"}, names=["a:1"])

    def refused(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    if not exchanges:
        monkeypatch.setattr(offer_module, "renameat2", refused)
    offer(store, there, [image])

    def half() -> None:
        monkeypatch.setattr(offer_module, "write_engine_split", die)
        monkeypatch.setattr(os, "link", die)
        offer(store, there, [image])

    assert children.wait(children.spawn(half)) == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 3
    assert (there / "overlay-layers/layers.json").exists()
    offer(store, there, [image])
    assert sorted(os.listdir(tmp_path)) == ["offered", "store"]
    assert (there / "overlay-layers/layers.json").exists()


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
