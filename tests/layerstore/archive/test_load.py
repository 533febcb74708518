"""Images from archives of every form, and archives that are not what they say."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import zstandard

from layerstore.archive.load import load
from layerstore.archive.save import OCI_ARCHIVE, save
from layerstore.db.database import Database, Value
from layerstore.errors import (
    Conflict,
    DigestMismatch,
    InvalidImage,
    InvalidReference,
    LimitExceeded,
    SizeMismatch,
    StoreError,
    UnknownMediaType,
)
from layerstore.limits import Limits
from layerstore.oci.digest import Digest
from layerstore.oci.json_values import DOCUMENT_LIMIT
from layerstore.progress import Progress, Status
from layerstore.store import Store
from tests.helpers.unions import open_fds
from tests.layerstore.archives import file, hardlink, symlink, whole
from tests.layerstore.image_archives import (
    BASE,
    REF,
    TOP,
    config_of,
    descriptor,
    hex_of,
    layout,
    loaded,
    old_docker,
    saved,
    sha,
    tar_of,
    with_manifest,
)


def nothing_in(store: Store) -> None:
    """Check that a failed load left nothing behind."""
    assert store.images.all() == []
    assert store.layers.all() == []
    assert list(store.blobs.all()) == []
    assert list(store.staging.path.iterdir()) == []
    assert os.listdir(store.root / "layers") == []


# -- round trips --


def test_docker_before_25(store: Store) -> None:
    (line,) = loaded(store, old_docker(BASE, TOP))
    image = store.images.get(line.image)
    assert str(line.name) == "docker.io/library/box:1"
    assert [str(tag) for tag in image.tags] == ["docker.io/library/box:1"]
    assert store.images.config(image).data == config_of(BASE, TOP)
    top, base = store.layers.chain(image.top)
    assert (base.diff / "etc/motd").read_bytes() == b"hello"
    assert not (top.diff / "etc/motd").exists()
    assert image.size == 7


@pytest.mark.parametrize(
    ("pack", "suffix"),
    [(bytes, ""), (gzip.compress, "+gzip"), (zstandard.compress, "+zstd"), (gzip.compress, "")],
)
def test_manifests_and_packed_layers_keep_their_digests(
    store: Store, other: Store, pack: Callable[[bytes], bytes], suffix: str
) -> None:
    files = layout(BASE, TOP, pack=pack, suffix=suffix, ref=REF)
    loaded(store, tar_of(files))
    again = saved(store, "box:1", form=OCI_ARCHIVE)
    blobs = {name: data for name, data in files.items() if name.startswith("blobs/")}
    assert {name: again[name] for name in blobs} == blobs
    assert "manifest.json" not in again
    (line,) = loaded(other, tar_of(again))
    assert str(line.name) == "docker.io/library/box:1"
    image = other.images.get(line.image)
    assert [sha(m.data) for m in other.images.manifests(image)] == [
        d["digest"] for d in json.loads(files["index.json"])["manifests"]
    ]


def test_a_packed_layer_that_is_there_unpacked_is_kept_all_the_same(store: Store) -> None:
    loaded(store, old_docker(BASE))
    files = layout(BASE, pack=gzip.compress, suffix="+gzip", ref=REF)
    loaded(store, tar_of(files))
    assert (
        files.items()
        >= {
            name: data
            for name, data in saved(store, "box:1", form=OCI_ARCHIVE).items()
            if name.startswith("blobs/")
        }.items()
    )


def test_a_packed_layer_of_other_content_does_not_come_to_stand_for_one_that_is_there(
    store: Store,
) -> None:
    loaded(store, old_docker(BASE))
    evil = layout(BASE, pack=lambda _: gzip.compress(TOP), suffix="+gzip", ref=REF)
    with pytest.raises(DigestMismatch, match="invalid diffID for layer 0"):
        loaded(store, tar_of(evil))
    assert list(store.blobs.all()) == [store.images.resolve("box:1").id]
    loaded(store, tar_of(layout(TOP, pack=gzip.compress, suffix="+gzip")))
    with pytest.raises(DigestMismatch, match="invalid diffID for layer 0"):
        loaded(store, tar_of(evil))  # nor where the blob is another layer's


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_files_and_streams_packed_or_not(
    store: Store, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    archive = pack(old_docker(BASE, TOP))
    path = tmp_path / "archive"
    path.write_bytes(archive)
    ids = {load(store, path)[0].image, loaded(store, archive)[0].image}
    with path.open("rb") as stream:
        ids.add(load(store, stream)[0].image)
    read, write = os.pipe()
    with open(write, "wb") as pipe, open(read, "rb") as stream:

        def send() -> None:
            pipe.write(archive)
            pipe.close()

        sender = threading.Thread(target=send)
        sender.start()
        ids.add(load(store, stream)[0].image)
        sender.join()
    assert len(ids) == 1


def test_a_name_that_moves(store: Store) -> None:
    first = loaded(store, old_docker(BASE))[0]
    second = loaded(store, old_docker(BASE, TOP))[0]
    assert first.renamed is None
    assert second.renamed == first.image
    assert store.images.get(first.image).tags == ()
    assert loaded(store, old_docker(BASE, TOP))[0].renamed is None


def test_the_parent_comes_along_where_it_is_in_the_archive(store: Store, other: Store) -> None:
    base, top = config_of(BASE), config_of(BASE, TOP)
    members = {"0/layer.tar": BASE, "1/layer.tar": TOP, "base.json": base, "top.json": top}
    both = [
        {"Config": "top.json", "Layers": ["0/layer.tar", "1/layer.tar"], "Parent": sha(base)},
        {"Config": "base.json", "Layers": ["0/layer.tar"], "RepoTags": ["base:1"], "Parent": "x"},
    ]
    child, parent = (line.image for line in loaded(store, with_manifest(members, both)))
    assert store.images.get(child).parent == parent
    assert store.images.get(parent).parent is None
    with pytest.raises(Conflict, match="image has dependent child images"):
        store.images.remove(parent.encoded)
    again = io.BytesIO()
    save(store, [child.encoded, "base:1"], again)
    load(other, io.BytesIO(again.getvalue()))
    assert other.images.get(child).parent == parent
    other.images.remove(child.encoded)
    other.images.remove("base:1")
    loaded(other, with_manifest(members, both[:1]))
    assert other.images.get(child).parent is None, "it is not in the archive"


def test_a_parent_that_can_be_none_is_refused(store: Store) -> None:
    """As docker refuses it; nor can two images be each other's."""
    one, two = config_of(BASE), config_of(BASE, comment="other")
    members = {"0/layer.tar": BASE, "1.json": one, "2.json": two}
    both = [
        {"Config": "1.json", "Layers": ["0/layer.tar"], "RepoTags": ["x:1"], "Parent": sha(two)},
        {"Config": "2.json", "Layers": ["0/layer.tar"], "Parent": sha(one)},
    ]
    with pytest.raises(InvalidImage, match=f"image {sha(two)} is not a valid parent for"):
        loaded(store, with_manifest(members, both))
    bare = [config_of(BASE, comment=str(n), history=None) for n in range(2)]
    members |= {"1.json": bare[0], "2.json": bare[1]}
    both[0]["Parent"], both[1]["Parent"] = sha(bare[1]), sha(bare[0])
    with pytest.raises(InvalidImage, match="is not a valid parent for"):
        loaded(store, with_manifest(members, both))
    nothing_in(store)


def test_image_without_layers(store: Store, other: Store) -> None:
    loaded(store, old_docker())
    (line,) = loaded(other, tar_of(saved(store, "box:1")))
    assert other.images.get(line.image).top is None


def test_progress(store: Store) -> None:
    seen: list[Progress] = []
    load(store, io.BytesIO(old_docker(BASE)), report=seen.append)
    short = Digest(sha(BASE)).short
    assert seen[-1] == Progress(short, Status.LOADING, len(BASE), len(BASE))
    files = layout(BASE, TOP, pack=gzip.compress)
    load(store, io.BytesIO(tar_of(files)), report=seen.append)
    assert seen[-1].done == seen[-1].total, "counted as it is packed"


def test_platform_of_this_machine(store: Store) -> None:
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    mine, theirs = layout(BASE, TOP), layout(BASE)
    descriptors = []
    for files, platform in (
        (theirs, {"os": "unknown", "architecture": "unknown"}),
        (theirs, {"os": "linux", "architecture": "pdp11"}),
        (mine, {"os": "linux", "architecture": arch}),
    ):
        (entry,) = json.loads(files["index.json"])["manifests"]
        descriptors.append({**entry, "platform": platform})
    inner = json.dumps({"schemaVersion": 2, "manifests": descriptors}).encode()
    outer = {
        "schemaVersion": 2,
        "manifests": [descriptor(inner, "index.v1+json", annotations=REF)],
    }
    files = {**theirs, **mine, f"blobs/sha256/{hex_of(inner)}": inner}
    files["index.json"] = json.dumps(outer).encode()
    (line,) = loaded(store, tar_of(files))
    assert line.image == sha(config_of(BASE, TOP))
    assert str(line.name) == "docker.io/library/box:1"


def test_links_within_an_archive(store: Store) -> None:
    config = config_of(BASE)
    entry = [{"Config": "c.json", "RepoTags": None, "Layers": ["dir/layer.tar"]}]
    loaded(
        store,
        whole(
            file(b"real.tar", BASE),
            symlink(b"dir/layer.tar", b"../loop/../../real.tar"),
            symlink(b"c.json", b"/d.json"),
            file(b"e.json", config),
            hardlink(b"d.json", b"e.json"),
            file(b"manifest.json", json.dumps(entry).encode()),
        ),
    )


# -- archives that lie --


def refused(store: Store, archive: bytes, error: type[StoreError], match: str) -> None:
    with pytest.raises(error, match=match):
        loaded(store, archive)
    nothing_in(store)


def test_links_that_lead_out(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(config_of(BASE))
    entry = [{"Config": "c.json", "RepoTags": None, "Layers": ["l"]}]
    for target in (b"/etc/passwd", b"../../../../etc/passwd", os.fsencode(tmp_path / "secret")):
        archive = whole(
            file(b"l", BASE),
            symlink(b"c.json", target),
            file(b"manifest.json", json.dumps(entry).encode()),
        )
        refused(store, archive, InvalidImage, "lacks c.json")
    loop = whole(symlink(b"c.json", b"c.json"), file(b"manifest.json", json.dumps(entry).encode()))
    refused(store, loop, InvalidImage, "goes in circles")


def test_a_directory_whose_files_lead_out(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    files = layout(BASE)
    for name, data in files.items():
        (tmp_path / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "layout" / name).write_bytes(data)
    config = f"blobs/sha256/{hex_of(config_of(BASE))}"
    (secret / "config").write_bytes(files[config])
    (tmp_path / "layout" / config).unlink()
    (tmp_path / "layout" / config).symlink_to(secret / "config")
    with pytest.raises(InvalidImage, match="lacks"):
        load(store, tmp_path / "layout")
    (tmp_path / "layout" / config).unlink()
    os.mkfifo(tmp_path / "layout" / config)
    with pytest.raises(InvalidImage, match="lacks"):
        load(store, tmp_path / "layout")
    nothing_in(store)


def test_a_directory_of_many_documents_takes_no_descriptor_for_each(
    store: Store, tmp_path: Path
) -> None:
    files = layout(BASE)
    index = json.loads(files["index.json"])
    index["manifests"] *= 200
    files["index.json"] = json.dumps(index).encode()
    for name, data in files.items():
        (tmp_path / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "layout" / name).write_bytes(data)
    was = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_fds() + 100, was[1]))
    try:
        assert len(load(store, tmp_path / "layout")) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, was)


def test_layers_that_are_not_what_the_configuration_says(store: Store) -> None:
    config = config_of(BASE)
    entry = {"Config": "c", "RepoTags": ["box:1"], "Layers": ["l"]}

    def archive(layer: bytes, **changes: object) -> bytes:
        manifest = json.dumps([{**entry, **changes}]).encode()
        return tar_of({"c": config, "l": layer, "manifest.json": manifest})

    refused(store, archive(TOP), DigestMismatch, 'invalid diffID for layer 0: expected "sha256:')
    refused(store, archive(BASE, Layers=["l", "l"]), InvalidImage, "expected 1, got 2")
    refused(store, archive(BASE, Layers=[]), InvalidImage, "expected 1, got 0")
    refused(store, archive(BASE, Layers=["../l"]), InvalidImage, "lacks ../l")
    refused(store, archive(BASE[:700]), InvalidImage, "cut short")
    refused(store, archive(gzip.compress(BASE)[:-6]), InvalidImage, "gzip stream is damaged")
    refused(store, archive(BASE, RepoTags=["Box:1"]), InvalidReference, "must be lowercase")
    refused(store, archive(BASE, RepoTags=["a@" + sha(b"")]), InvalidReference, "names a digest")
    refused(store, archive(BASE, RepoTags="box"), InvalidImage, "not a list of texts")
    refused(store, archive(BASE, Config=["c"]), InvalidImage, 'has no "Config"')


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"{}", "not a list"),
        (b"[1]", "not an object"),
        (b"[", "not JSON"),
        (b"[" * 100_000, "JSON"),
        (rb'[{"Config": "\ud800"}]', "lacks \ufffd"),
        (rb'[{"Config": "manifest.json", "Layers": ["\udcff"]}]', "not a JSON object"),
    ],
)
def test_manifest_json_of_another_shape(store: Store, data: bytes, match: str) -> None:
    refused(store, tar_of({"manifest.json": data}), InvalidImage, match)


def test_documents_have_a_limit(store: Store) -> None:
    big = bytes(DOCUMENT_LIMIT + 1)
    refused(store, tar_of({"manifest.json": big}), LimitExceeded, "larger than")


def test_images_and_documents_together_have_a_limit(store: Store) -> None:
    entry = {"Config": "c", "RepoTags": ["a:1", "b:1"], "Layers": ["l"]}
    files = {"c": config_of(BASE), "l": BASE, "manifest.json": json.dumps([entry] * 2).encode()}
    for limits in (Limits(images=3), Limits(documents=2 * len(files["c"]))):
        with pytest.raises(LimitExceeded, match=r"images or names|too large together"):
            load(store, io.BytesIO(tar_of(files)), limits=limits)
        nothing_in(store)
    assert len(load(store, io.BytesIO(tar_of(files)), limits=Limits(images=4))) == 2


def rows_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: int) -> int:
    """Return how many rows of the database a load of `entries` entries of one image reads."""
    config = config_of(BASE)
    listed = [
        {"Config": "c", "RepoTags": [f"box:{number}"], "Layers": [f"./{'/' * (number % 3)}l"]}
        for number in range(entries)
    ]
    files = {"c": config, "l": BASE, "manifest.json": json.dumps(listed).encode()}
    count = 0
    read = Database.read

    def counted(self: Database, sql: str, values: Sequence[Value] = ()) -> list[tuple[Value, ...]]:
        nonlocal count
        found = read(self, sql, values)
        count += len(found)
        return found

    with Store.open(tmp_path / str(entries), sync=False) as store, monkeypatch.context() as patch:
        patch.setattr(Database, "read", counted)
        assert len(load(store, io.BytesIO(tar_of(files)))) == entries
    return count


def test_a_load_costs_what_its_archive_has_and_not_the_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = (rows_read(tmp_path, monkeypatch, entries) for entries in (100, 400))
    assert many < 5 * few


def test_digests_and_sizes_of_a_layout(store: Store) -> None:
    def refuse(
        change: Callable[[dict[str, bytes]], None], error: type[StoreError], match: str
    ) -> None:
        files = layout(BASE, pack=lambda data: gzip.compress(data, mtime=0), ref=REF)
        change(files)
        refused(store, tar_of(files), error, match)

    def name(data: bytes) -> str:
        return f"blobs/sha256/{hex_of(data)}"

    config, packed = config_of(BASE), gzip.compress(BASE, mtime=0)

    def set_to(key: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
        return lambda files: files.__setitem__(key, data)

    refuse(set_to(name(config), config + b" "), SizeMismatch, "were announced")
    refuse(set_to(name(config), config[:-1] + b" "), DigestMismatch, "has the digest")
    refuse(set_to(name(packed), packed + b"x"), SizeMismatch, "were announced")
    other = packed[:-1] + bytes([packed[-1] ^ 1])
    refuse(set_to(name(packed), other), DigestMismatch, "damaged or altered")
    refuse(lambda files: files.__delitem__(name(config)), InvalidImage, "lacks")
    refuse(set_to("oci-layout", b'{"imageLayoutVersion":"2.0"}'), InvalidImage, "unknown version")
    refuse(set_to("index.json", b'{"manifests":[],"layers":[]}'), InvalidImage, "both")


def test_a_load_that_fails_halfway_leaves_nothing(store: Store) -> None:
    files = layout(BASE, TOP, pack=lambda data: gzip.compress(data, mtime=0), ref=REF)
    top = f"blobs/sha256/{hex_of(gzip.compress(TOP, mtime=0))}"
    files[top] = files[top][:-1] + bytes([files[top][-1] ^ 1])
    refused(store, tar_of(files), DigestMismatch, "damaged or altered")


def test_a_manifest_that_is_an_index_too(store: Store) -> None:
    files = layout(BASE, manifests=[])
    refused(store, tar_of(files), InvalidImage, "both a manifest and an index")
    files = layout(BASE, mediaType="application/vnd.oci.image.index.v1+json")
    refused(store, tar_of(files), UnknownMediaType, "unknown type")


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "md5:" + "0" * 32, "x", ""])
def test_digests_are_never_paths(store: Store, digest: str) -> None:
    files = layout(BASE, layer_fields={"digest": digest})
    refused(store, tar_of(files), InvalidImage, "invalid digest|unsupported digest")


def test_no_archive_of_images(store: Store) -> None:
    refused(store, BASE, InvalidImage, "neither an OCI layout nor one of docker's")
    for rubbish in (b"no tar at all" * 100, b"short"):
        refused(store, rubbish, InvalidImage, "this is no tar archive of images")
    for nothing in (b"", gzip.compress(b"")):
        refused(store, nothing, InvalidImage, "the archive of images is empty")
    refused(store, bytes(1024), InvalidImage, "neither")
    with pytest.raises(StoreError, match="cannot be read"):
        load(store, Path("/none/such"))
