"""Root filesystems in and out: tars, streams and directories."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.errors import InvalidImage, StoreError
from layerstore.flatten import TreeStream, write_flat_tar
from layerstore.pack import pack
from layerstore.store import Store
from layerstore.transfer import export_container, import_image
from tests.helpers.drivers import OsDriver
from tests.helpers.mounts import require_root
from tests.helpers.trees import assert_same, merge_layers, snapshot
from tests.helpers.unions import fill
from tests.layerstore.archives import file, folder, whole

ROOTFS = whole(folder(b"./"), folder(b"./etc"), file(b"./etc/motd", b"hello"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store", sync=False) as store:
        yield store


def test_import_of_a_stream(store: Store) -> None:
    image = import_image(
        store, io.BytesIO(gzip.compress(ROOTFS)), "box:1", config={"Cmd": ["sh"]}, message="mine"
    )
    assert [str(tag) for tag in image.tags] == ["docker.io/library/box:1"]
    config = store.images.config(image)
    assert config.config == {"Cmd": ["sh"]}
    assert config.os == "linux"
    (line,) = store.images.history(image)
    assert (line.comment, line.size) == ("mine", 5)
    (layer,) = store.layers.chain(image.top)
    assert (layer.diff / "etc/motd").read_bytes() == b"hello"


def test_import_of_a_file_and_of_a_directory_is_the_same_layer(
    store: Store, tmp_path: Path
) -> None:
    require_root()
    tree = tmp_path / "tree"
    tree.mkdir()
    fill(tree, {"etc": {"motd": "hello"}, "big": "x" * 3_000_000})
    os.link(tree / "big", tree / "hard")
    os.setxattr(tree / "big", "user.x", b"1")
    os.chown(tree / "etc", 5, 6)
    archive = tmp_path / "tar"
    with archive.open("wb", buffering=0) as out:
        write_flat_tar([tree], out)
    tops = {import_image(store, source).top for source in (tree, archive)}
    assert len(tops) == 1
    (layer,) = store.layers.chain(tops.pop())
    assert_same(snapshot(OsDriver(tree)), snapshot(OsDriver(layer.diff)))


def test_a_root_filesystem_that_is_cut_short(store: Store) -> None:
    for archive in (ROOTFS[:-1024], ROOTFS[:700], b""):
        with pytest.raises(InvalidImage, match="cut short"):
            import_image(store, io.BytesIO(archive))
    with pytest.raises(StoreError, match="cannot be imported"):
        import_image(store, Path("/none"))
    assert store.layers.all() == []
    assert list(store.staging.path.iterdir()) == []


def test_export_shows_what_the_container_shows(store: Store, tmp_path: Path) -> None:
    require_root()
    image = import_image(store, io.BytesIO(ROOTFS), "box:1")
    container = store.containers.create(image)
    upper = store.containers.upper(container)
    fill(upper, {"etc": {"motd": None, "new": "1"}, "srv": {}})
    out = io.BytesIO()
    export_container(store, container, out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        assert sorted(tar.getnames()) == [".", "etc", "etc/new", "srv"]


def test_flat_is_the_merged_tree(tmp_path: Path) -> None:
    require_root()
    layers = [tmp_path / name for name in ("top", "middle", "base")]
    for layer in layers:
        layer.mkdir()
    fill(layers[2], {"d": {"a": "1", "b": "2"}, "gone": "3", "dir": {"x": "1"}})
    fill(layers[1], {"d": {"b": "new"}, "gone": None, "dir": "a file"})
    fill(layers[0], {"d": {"c": "4"}, "gone": {"now": "a directory"}})
    out = io.BytesIO()
    packed = write_flat_tar(layers, out, hashing=True)
    merged, unpacked = tmp_path / "merged", tmp_path / "unpacked"
    merge_layers(layers, merged)
    unpacked.mkdir()
    subprocess.run(["tar", "-C", unpacked, "-xpf", "-"], input=out.getvalue(), check=True)
    assert_same(snapshot(OsDriver(merged)), snapshot(OsDriver(unpacked)), skip=["mtime_ns"])
    assert pack(merged, [], privileged=True).size == packed.size


def test_a_tree_that_cannot_be_read(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="cannot be read as one tree"),
        TreeStream(tmp_path / "none") as stream,
    ):
        stream.readall()


def test_a_tree_whose_reader_goes_away(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(5 << 20))
    with TreeStream(tmp_path) as stream:
        assert stream.read(100)
