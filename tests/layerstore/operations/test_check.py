"""Checking: a sound store has no findings, and each damage has its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore import Image, Layer, Store
from layerstore.errors import StoreError
from layerstore.oci.digest import Digest
from layerstore.oci.documents import OCI_CONFIG, Descriptor, Manifest
from layerstore.operations.check import Finding, Repair, check
from layerstore.operations.gc import prune
from layerstore.operations.repair import repair
from tests.helpers.images import add_image, add_layer, some_digest

A = {"etc/motd": b"hello", "bin/sh": b"#!", "empty": b""}
B = {"etc/motd": b"bye"}


@pytest.fixture
def image(store: Store) -> Image:
    """An image of two layers with a manifest, a blob of its base, and a container."""
    made = add_image(store, A, B, names=["x:1"])
    store.images.add_manifest(made, Manifest.of(Descriptor(OCI_CONFIG, made.id, 5), ()))
    with store.leases.lease("work", "test"):
        blob = store.blobs.put(b"an archive")
        store.layers.archives.add(
            store.layers.chain(made.top)[1].diff_id, blob, "application/x", 10
        )
    store.containers.create(made, name="box")
    return made


def base_of(store: Store, image: Image) -> Layer:
    return store.layers.chain(image.top)[-1]


def found(store: Store, *, content: bool = True) -> list[str]:
    return [str(finding) for finding in check(store, content=content)]


def test_sound_store_has_no_findings(store: Store, image: Image) -> None:
    assert found(store) == []


def test_empty_store_has_no_findings(store: Store) -> None:
    assert found(store) == []


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


def retime(path: Path) -> None:
    os.utime(path, ns=(0, 0))


@pytest.mark.parametrize(
    ("damage", "path", "problem"),
    [
        (append, "etc/motd", "differs in size, time, content"),
        (Path.unlink, "bin/sh", "is missing"),
        (retime, "bin/sh", "differs in time"),
        (lambda path: path.chmod(0o4711), "bin/sh", "differs in mode"),
        (lambda path: os.setxattr(path, "user.x", b"y"), "etc", "differs in xattrs"),
    ],
)
def test_changed_file_is_named_with_its_layer(
    store: Store, image: Image, damage: Callable[[Path], None], path: str, problem: str
) -> None:
    layer = base_of(store, image)
    times = {p: p.stat().st_mtime_ns for p in (layer.diff, layer.diff / "etc", layer.diff / "bin")}
    damage(layer.diff / path)
    for directory, mtime in times.items():
        if directory != layer.diff / path:
            os.utime(directory, ns=(mtime, mtime))
    assert found(store) == [f"layer {layer.chain_id.short}: {path} {problem}"]


def test_content_changed_behind_its_time_is_found_by_reading(store: Store, image: Image) -> None:
    layer = base_of(store, image)
    path = layer.diff / "etc/motd"
    before = path.stat()
    path.write_bytes(b"HELLO")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(store, content=False) == []
    assert found(store) == [f"layer {layer.chain_id.short}: etc/motd differs in content"]


def test_file_too_many(store: Store, image: Image) -> None:
    layer = base_of(store, image)
    (layer.diff / "bin" / "extra").touch()
    assert f"layer {layer.chain_id.short}: bin/extra is not in the layer" in found(store)


def test_name_that_is_no_text_is_shown(store: Store, image: Image) -> None:
    layer = base_of(store, image)
    os.close(os.open(os.fsencode(layer.diff) + b"/\xff", os.O_CREAT, 0o600))
    assert f"layer {layer.chain_id.short}: \\xff is not in the layer" in found(store)


@pytest.mark.parametrize("name", ["index", "tar-split"])
@pytest.mark.parametrize("content", [None, b"", b"rubbish"])
def test_damaged_record_of_a_layer(
    store: Store, image: Image, name: str, content: bytes | None
) -> None:
    path = base_of(store, image).path / name
    path.unlink() if content is None else path.write_bytes(content)
    (only,) = found(store)
    assert only.startswith(f"layer {base_of(store, image).chain_id.short} cannot be ")


def test_record_cut_short(store: Store, image: Image) -> None:
    for name in ("index", "tar-split"):
        path = base_of(store, image).path / name
        path.write_bytes(path.read_bytes()[:-20])
    assert len(found(store)) == 2


def test_lost_layer_is_told_with_the_images_and_containers_it_breaks(
    store: Store, image: Image
) -> None:
    layer = base_of(store, image)
    os.rename(layer.path, store.root / "elsewhere")
    assert found(store) == [
        f"layer {layer.chain_id.short} has lost its files",
        f"image {image.id.short} cannot be mounted without the layer {layer.chain_id.short}; "
        "load it again",
        f"container box cannot be mounted: the layer {layer.chain_id.short} has lost its files; "
        "`pyunion check` shows which images need it, and loading one of them again restores it",
    ]


def test_damaged_and_missing_blobs(store: Store, image: Image) -> None:
    (manifest,) = store.images.manifests(image)
    append(store.blobs.path(manifest.digest))
    short = image.id.short
    assert found(store) == [
        f"blob {manifest.digest} is damaged; the image {short}, as its manifest, needs it"
    ]
    assert found(store, content=False) == []
    store.blobs.path(manifest.digest).unlink()
    assert found(store) == [
        f"blob {manifest.digest} is missing; the image {short}, as its manifest, needs it"
    ]


def test_damaged_configuration(store: Store, image: Image) -> None:
    append(store.blobs.path(image.id))
    blob, broken = found(store)
    assert blob == (
        f"blob {image.id} is damaged; the image {image.id.short}, as its configuration, needs it"
    )
    assert broken.startswith(f"image {image.id.short} cannot be used: ")


def test_row_that_contradicts_the_configuration(store: Store, image: Image) -> None:
    store.database.write("UPDATE images SET top = ?", (base_of(store, image).chain_id,))
    assert f"image {image.id.short} is not of the layers that its configuration names" in found(
        store
    )


def test_leftovers_are_harmless(store: Store, image: Image) -> None:
    loose = store.blobs.put(b"loose")
    layer = add_layer(store, None, B)
    (store.root / "layers" / "stray").mkdir()
    (store.root / "containers" / "stray").mkdir()
    (store.root / "staging" / "stray").mkdir()
    os.utime(store.root / "staging" / "stray", (0, 0))
    findings = check(store)
    assert [str(finding) for finding in findings] == [
        f"blob {loose} belongs to nothing",
        f"layer {layer.chain_id.short} belongs to no image",
        "layers/stray belongs to no layer",
        "containers/stray belongs to no container",
        "staging/stray was left behind",
    ]
    assert all(finding.harmless for finding in findings)
    store.staging.sweep()


def test_what_others_put_among_our_files_is_named(store: Store, image: Image) -> None:
    inside = f"layers/{base_of(store, image).chain_id.encoded}/notes"
    names = ["blobs/sha512", "blobs/sha256/notes.txt", inside, "partial/notes"]
    for name in names:
        (store.root / name).write_text("precious")
    findings = repair(store)
    assert [finding.key for finding in findings] == names
    assert all(finding.harmless and finding.problem.endswith("made") for finding in findings)
    assert found(store) == []
    (run,) = (store.root / "quarantine").iterdir()
    assert [(run / name).read_text() for name in names] == ["precious"] * 4


def test_a_begun_download_is_in_order_and_pruned(store: Store, image: Image) -> None:
    begun, claim = store.root / "partial" / ("0" * 64), store.root / "partial" / f"{'1' * 64}.layer"
    begun.write_bytes(b"half")
    claim.touch()
    assert found(store) == []
    with store.partial.claim(Digest(f"sha256:{'0' * 64}"), lambda: None):
        assert prune(store, dry_run=True).freed == 0
    assert prune(store, dry_run=True).freed == 4096
    assert prune(store).freed >= 4096
    assert not (begun.exists() or claim.exists())


@pytest.mark.parametrize("kind", ["directory", "fifo", "link in circles"])
def test_a_blob_that_is_no_file(store: Store, image: Image, kind: str) -> None:
    path = store.blobs.path(image.id)
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(path.name)
    assert any(one.startswith(f"blob {image.id} is ") for one in found(store))
    assert any(finding.repair for finding in repair(store))
    assert not os.path.lexists(path)


def test_what_was_lost_of_an_image_for_good_is_not_repairable(store: Store, image: Image) -> None:
    store.blobs.path(image.id).unlink()
    assert not any(finding.repairable for finding in check(store))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE containers SET config = '{'", "the configuration of container box"),
        ("UPDATE containers SET config = '[]'", "the configuration of container box"),
        ("UPDATE containers SET status = 'odd'", "has the status 'odd'"),
        ("UPDATE volumes SET labels = '1'", "what labels the volume data has"),
    ],
)
def test_a_row_that_makes_no_sense(store: Store, image: Image, change: str, said: str) -> None:
    store.volumes.create("data", {})
    store.database.write(change)
    with pytest.raises(StoreError, match=r"damaged: .*restore it from a backup") as raised:
        check(store)
    assert said in str(raised.value)


def test_work_under_way_is_no_leftover(store: Store, image: Image) -> None:
    with store.leases.lease("work", "load"), store.layers.stage():
        store.blobs.put(b"loose")
        add_layer(store, None, B)
        assert found(store) == []


def test_lost_container(store: Store, image: Image) -> None:
    container = store.containers.resolve("box")
    container.work.rmdir()
    assert found(store) == ["container box has lost its work"]
    os.rename(container.directory, store.root / "elsewhere")
    assert found(store) == ["container box has lost its directory"]


def test_container_whose_image_is_gone_is_sound(store: Store, image: Image) -> None:
    store.images.remove("x:1", force=True)
    assert found(store) == []


def test_finding_says_what_was_done() -> None:
    finding = Finding("blob", some_digest("b"), "is damaged", repair=Repair(True, "moved away"))
    assert str(finding) == f"blob {some_digest('b')} is damaged (moved away)"
    assert not finding.is_damage
    failed = finding._replace(repair=Repair(False, "the disk is full"))
    assert str(failed).endswith(" is damaged (not repaired: the disk is full)")
    assert failed.is_damage and finding._replace(repair=None).is_damage
    assert not failed._replace(harmless=True).is_damage
