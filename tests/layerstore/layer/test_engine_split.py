"""The tar-split of containers/storage: written, and read as its engines read it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
from pathlib import Path

import pytest

from layerstore.errors import DigestMismatch, InvalidImage
from layerstore.layer import engine_split
from layerstore.layer.crc64 import crc64
from layerstore.layer.engine_split import read_engine_split, write_engine_split
from layerstore.layer.pack import pack
from layerstore.layer.tar_split import TAR_SPLIT, assemble
from layerstore.oci.json_values import Object
from layerstore.tar.headers import format_sparse_map
from tests.helpers.mounts import require_root
from tests.helpers.unions import fill
from tests.layerstore.archives import Site, file, folder, pax_of, whole


def _entries(path: Path) -> list[Object]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def _as_an_engine(split: Path, diff: Path) -> tuple[bytes, set[bytes]]:
    """Return what vbatts/tar-split makes of it, and which files of `diff` it reads."""
    out, paths = b"", set()
    for position, entry in enumerate(_entries(split)):
        assert entry["position"] == position
        payload = base64.b64decode(str(entry["payload"]))
        if entry["type"] == 2:
            out += payload
            continue
        raw = entry.get("name_raw")
        path = base64.b64decode(str(raw)) if raw else os.fsencode(str(entry["name"]))
        assert path not in paths, "storage.ErrDuplicatePath"
        paths.add(path)
        data = Path(os.fsdecode(os.fsencode(diff) + b"/" + path)).read_bytes()
        assert (len(data), crc64(data).to_bytes(8, "big")) == (entry["size"], payload)
        out += data
    return out, paths


def _check(site: Site, archive: bytes, paths: set[bytes]) -> None:
    site.unpack(archive)
    split = site.staging / "engine-split"
    assert write_engine_split(site.staging, (), split)
    assert _as_an_engine(split, site.diff) == (archive, paths)


def test_what_an_engine_makes_of_it(site: Site) -> None:
    files = file(b"a", b"x" * 3000), folder(b"d"), file(b"d/\xff\n", b"odd"), file(b"empty", b"")
    _check(
        site,
        whole(*files, file(b"big", os.urandom(600_000))),
        {b"a", b"d/\xff\n", b"big", b"empty"},
    )


def test_a_path_twice(site: Site) -> None:
    parts = [file(b"d/a", b"%d" % number * 50) for number in range(3)]
    _check(site, whole(folder(b"d"), *parts, file(b"b", b"b")), {b"d/a", b"b"})


def test_a_sparse_file(site: Site) -> None:
    records = {b"major": b"1", b"minor": b"0", b"name": b"b", b"realsize": b"%d" % (1 << 20)}
    sparse = pax_of({b"GNU.sparse." + key: value for key, value in records.items()})
    body = format_sparse_map([(1 << 19, (1 << 19) + 3)], 1 << 20) + b"mid"
    _check(site, whole(file(b"a", b"a"), sparse, file(b"b", body)), {b"a"})


def test_a_file_of_a_layer_beneath(tmp_path: Path) -> None:
    require_root()
    layer, lower = tmp_path / "layer", tmp_path / "lower"
    (layer / "diff").mkdir(parents=True)
    lower.mkdir()
    fill(lower, {"old": {"file": "content"}})
    fill(layer / "diff", {"old": None, "new": {"own": "own"}})
    os.setxattr(layer / "diff/new", "trusted.overlay.redirect", b"old")
    out = io.BytesIO()
    pack(layer / "diff", [lower], out, privileged=True, record=layer)
    assert write_engine_split(layer, [lower], layer / "split")
    assert _as_an_engine(layer / "split", layer / "diff") == (out.getvalue(), {b"new/own"})


def test_too_much_to_copy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.unpack(whole(file(b"a", b"1" * 600), file(b"a", b"2" * 600), file(b"a", b"3")))
    monkeypatch.setattr(engine_split, "MOST_COPIED", 1000)
    assert not write_engine_split(site.staging, (), site.staging / "split")
    assert not (site.staging / "split").exists()


def test_a_damaged_layer(site: Site) -> None:
    site.unpack(whole(file(b"a", b"x" * 2000)))
    os.truncate(site.diff / "a", 5)
    with pytest.raises(DigestMismatch, match="“a” of a layer is shorter than it was"):
        write_engine_split(site.staging, (), site.staging / "split")


def test_read_again(site: Site) -> None:
    archive = whole(file(b"a", b"x" * 3000), file(b"d/b", b"b"))
    site.unpack(archive)
    before = assemble(site.staging, None)
    write_engine_split(site.staging, (), site.staging / "split")
    (site.staging / TAR_SPLIT).unlink()
    read_engine_split(site.staging / "split", site.staging / TAR_SPLIT)
    assert assemble(site.staging, None) == before


@pytest.mark.parametrize(
    "line",
    [
        b"[]\n",
        b'{"type": 3}\n',
        b'{"type": 2, "payload": "!"}\n',
        b'{"type": 1, "name": "../up", "size": 1}\n',
        b'{"type": 1, "name": 5, "size": 1}\n',
        b"{\n",
    ],
)
def test_a_damaged_split(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(gzip.compress(line))
    with pytest.raises(InvalidImage, match=r"the tar-split .*there cannot be read"):
        read_engine_split(tmp_path / "there", tmp_path / "here")


def test_a_split_cut_short(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(gzip.compress(b'{"type": 2, "payload": "YQ=="}\n')[:-9])
    with pytest.raises(InvalidImage, match=r"the tar-split .*there cannot be read"):
        read_engine_split(tmp_path / "there", tmp_path / "here")
