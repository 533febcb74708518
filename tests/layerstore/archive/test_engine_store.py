"""Images of another store, whose layers stay where they are."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from layerstore.archive import engine_store
from layerstore.archive.engine_store import find_in_engine, load_from_engine, parse_source
from layerstore.archive.load import Loaded
from layerstore.archive.save import save
from layerstore.errors import DigestMismatch, InvalidImage, InvalidReference, NotFound, StoreError
from layerstore.operations.check import check
from layerstore.store import Store
from tests.helpers.images import add_image, diff_id
from tests.helpers.mounts import require_root

pytestmark = pytest.mark.usefixtures("as_root")

_LAYER = "b" * 64


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A store of containers/storage with one image of one layer, base:1."""
    root = tmp_path / "engine"
    tree = root / "overlay" / _LAYER / "diff"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/motd").write_bytes(b"hello" * 1000)
    (tree / "etc/empty").touch()
    (tree / "link").symlink_to("etc/motd")
    tar = _tar_of(tree)
    diff = f"sha256:{hashlib.sha256(tar).hexdigest()}"
    layers = root / "overlay-layers"
    layers.mkdir()
    (layers / "layers.json").write_text(json.dumps([{"id": _LAYER, "diff-digest": diff}]))
    (layers / "layers.lock").touch()
    _write_split(layers / f"{_LAYER}.tar-split.gz", tar)
    _write_image(root, [diff])
    return root


def _write_image(root: Path, diff_ids: list[str]) -> None:
    """Let base:1 be the only image, with the layer as its topmost."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    image = hashlib.sha256(config).hexdigest()
    images = root / "overlay-images"
    (images / image).mkdir(parents=True)
    key = base64.b64encode(f"sha256:{image}".encode()).decode()
    (images / image / f"={key}").write_bytes(config)
    line = {"id": image, "names": ["localhost/base:1"], "layer": _LAYER}
    (images / "images.json").write_text(json.dumps([line]))
    (images / "images.lock").touch()


def load(store: Store, source: str) -> list[Loaded]:
    return load_from_engine(store, find_in_engine(source))


def _tar_of(tree: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(tree, ".")
    return out.getvalue()


def _write_split(path: Path, archive: bytes) -> None:
    """Write the tar-split of `archive`, as vbatts/tar-split does."""
    entries: list[dict[str, object]] = []
    at = 0
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            head = archive[at : member.offset_data]
            entries.append({"type": 2, "payload": base64.b64encode(head).decode()})
            size = member.size if member.isreg() else 0
            entries.append({"type": 1, "name": member.name, "size": size, "payload": None})
            at = member.offset_data + size
    entries.append({"type": 2, "payload": base64.b64encode(archive[at:]).decode()})
    with gzip.open(path, "wt") as out:
        for position, entry in enumerate(entries):
            out.write(json.dumps({**entry, "position": position}) + "\n")


def test_the_layers_stay_where_they_are(store: Store, engine: Path, tmp_path: Path) -> None:
    (loaded,) = load(store, f"containers-storage:[{engine}]base:1")
    assert str(loaded.name) == "localhost/base:1"
    image = store.images.resolve("localhost/base:1")
    (layer,) = store.layers.chain(image.top)
    assert layer.diff == engine / "overlay" / _LAYER / "diff"
    assert layer.size == 5000
    assert (layer.diff / "etc/motd").read_bytes() == b"hello" * 1000
    assert check(store, content=True) == []
    save(store, ["localhost/base:1"], io.BytesIO())  # which compares the digest
    store.images.remove("localhost/base:1")
    assert (engine / "overlay" / _LAYER / "diff/etc/motd").exists(), "not ours to remove"
    assert os.listdir(store.root / "layers") == []


def test_by_id_and_twice(store: Store, engine: Path) -> None:
    (line,) = json.loads((engine / "overlay-images/images.json").read_text())
    for _ in range(2):
        source = f"containers-storage:[overlay@{engine}+/run]{line['id'][:8]}"
        loaded = load(store, source)
        assert loaded[0].image == f"sha256:{line['id']}"


def test_a_layer_that_was_changed(store: Store, engine: Path) -> None:
    (engine / "overlay" / _LAYER / "diff/etc/motd").write_bytes(b"HELLO" * 1000)
    with pytest.raises(DigestMismatch, match="was changed"):
        load(store, f"containers-storage:[{engine}]base:1")
    assert store.images.all() == []
    assert os.listdir(store.root / "layers") == []


def test_a_layer_that_the_engine_removes(store: Store, engine: Path) -> None:
    load(store, f"containers-storage:[{engine}]base:1")
    image = store.images.resolve("localhost/base:1")
    shutil.rmtree(engine)
    with pytest.raises(NotFound, match="has lost its files"):
        store.layers.chain(image.top)
    lost = f"has lost its files: {engine}/overlay/{_LAYER}/diff, in another store, is gone"
    assert next((found.problem, found.repairable) for found in check(store)) == (lost, False)
    assert not any(found.repairable for found in check(store))


def test_what_is_built_upon_an_additional_store(store: Store, engine: Path) -> None:
    """The layers beneath are known by the configuration, and have to be here."""
    base = {"etc/issue": b"base"}
    lines = json.loads((engine / "overlay-layers/layers.json").read_text())
    (engine / "overlay-layers/layers.json").write_text(
        json.dumps([{**lines[0], "parent": "c" * 64}])
    )
    source = f"containers-storage:[{engine}]base:1"
    with pytest.raises(InvalidImage, match="has 1 layers"):
        load(store, source)
    _write_image(engine, [diff_id(base), lines[0]["diff-digest"]])
    with pytest.raises(NotFound, match="load or pull the image that it was built upon first"):
        load(store, source)
    add_image(store, base)
    load(store, source)
    top, below = store.layers.chain(store.images.resolve("localhost/base:1").top)
    assert top.diff == engine / "overlay" / _LAYER / "diff"
    assert (below.diff / "etc/issue").read_bytes() == b"base"
    assert check(store) == []


def test_a_tar_split_that_leads_out_of_the_layer(store: Store, engine: Path) -> None:
    entry = {"type": 1, "name": "../../../secret", "size": 5, "payload": None, "position": 0}
    with gzip.open(engine / f"overlay-layers/{_LAYER}.tar-split.gz", "wt") as out:
        out.write(json.dumps(entry) + "\n")
    with pytest.raises(InvalidImage, match="leads out of the layer"):
        load(store, f"containers-storage:[{engine}]base:1")


def test_what_is_not_there(store: Store, engine: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no image other"):
        load(store, f"containers-storage:[{engine}]other")
    with pytest.raises(NotFound, match=r"is not a store of podman .*:\[DIRECTORY\]IMAGE$"):
        load(store, f"containers-storage:[{tmp_path}]base")
    with pytest.raises(InvalidReference, match="give containers-storage:IMAGE"):
        parse_source("containers-storage:[/x")


@pytest.mark.parametrize(
    "place", ["", "overlay", f"overlay/{_LAYER}"], ids=["store", "trees", "layer"]
)
@pytest.mark.parametrize("how", ["owned", "writable"])
def test_a_store_that_others_can_change_is_refused(
    store: Store, engine: Path, place: str, how: str
) -> None:
    """They could put another tree in its place at any time."""
    if how == "owned":
        os.chown(engine / place, 1000, 1000)
    else:
        os.chmod(engine / place, 0o775)
    with pytest.raises(StoreError, match="may be changed by other users than root"):
        load(store, f"containers-storage:[{engine}]base:1")


@pytest.mark.parametrize("place", [f"overlay/{_LAYER}/diff", f"overlay/{_LAYER}", "overlay"])
def test_a_tree_behind_a_link_is_refused(
    store: Store, engine: Path, tmp_path: Path, place: str
) -> None:
    """It could be any directory of the machine."""
    shutil.move(engine / place, tmp_path / "elsewhere")
    (engine / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotFound, match="the tree of the layer bbbbbbbbbbbb is not in"):
        load(store, f"containers-storage:[{engine}]base:1")


def test_a_link_to_the_whole_store_is_followed(store: Store, engine: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(engine)
    assert load(store, f"containers-storage:[{tmp_path}/link]base:1")


@pytest.mark.parametrize("space", ["user.containers", "user.fuseoverlayfs"])
def test_a_store_with_owners_in_attributes(store: Store, engine: Path, space: str) -> None:
    tree = engine / "overlay" / _LAYER / "diff"
    os.setxattr(tree, f"{space}.override_stat", b"0:0:0755:dir")
    with pytest.raises(StoreError, match="owners and modes of its files in attributes"):
        load(store, f"containers-storage:[{engine}]base:1")
    assert os.listdir(store.root / "layers") == []


def test_a_user_trusts_root_and_themselves(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    for path in (engine, *engine.glob("overlay/*"), engine / "overlay"):
        os.chown(path, 1000, 1000)
    source = f"containers-storage:[{engine}]base:1"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    _, image = find_in_engine(source)
    assert image.trees == (engine / "overlay" / _LAYER / "diff",)
    monkeypatch.setattr("os.geteuid", lambda: 1001)
    with pytest.raises(StoreError, match="by other users than root and you"):
        find_in_engine(source)


def test_owners_are_not_seen_in_a_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    monkeypatch.setattr(engine_store, "is_machine_root", lambda: False)
    with pytest.raises(StoreError, match="load the image outside of it"):
        find_in_engine("containers-storage:web")


def test_the_store_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    there, name = parse_source("containers-storage:web:1")
    assert (there.root, name) == (Path("/home/me/.local/share/containers/storage"), "web:1")
