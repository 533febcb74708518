"""Repairing: what can be made anew is, all else is moved aside, nothing is deleted."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from layerstore import Image, Layer, Store
from layerstore.layer.unpack import unpack
from layerstore.oci.documents import OCI_LAYER
from layerstore.operations.check import Finding, Repair, check
from layerstore.operations.repair import repair
from layerstore.tar.compression import open_decompressed
from tests.helpers.images import add_image, add_layer, config_of
from unionfs.syscalls.privilege import is_machine_root

A, B = {"etc/motd": b"hello"}, {"b": b"22"}


def quarantined(store: Store) -> list[str]:
    """Return what lies in the quarantine, by the names it had."""
    (run,) = (store.root / "quarantine").iterdir()
    return sorted(str(path.relative_to(run)) for path in run.glob("*/*"))


def done(finding: Finding) -> str:
    """Return what the repair of a finding did; fail if it did nothing."""
    assert finding.repair is not None and finding.repair.done and not finding.is_damage
    return finding.repair.what


def add_archived(store: Store) -> tuple[Image, Layer]:
    """Add an image of one layer that keeps the archive it came from."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name in ("usr/bin/tool", "etc/tool.conf"):
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    packed = gzip.compress(tar.getvalue())
    with store.leases.lease("work", "test"):
        blob = store.blobs.put(packed)
        with store.layers.stage() as staging:
            unpacked = unpack(
                open_decompressed(io.BytesIO(packed)), staging.path, privileged=is_machine_root()
            )
            layer = store.layers.publish(staging, None, unpacked.diff_id, unpacked.size)
        store.layers.archives.add(layer.diff_id, blob, OCI_LAYER + "+gzip", len(packed))
        image = store.images.add(config_of([layer.diff_id]).data)
    return image, layer


def test_sound_store_is_left_alone(store: Store) -> None:
    add_archived(store)
    assert repair(store) == [] and not (store.root / "quarantine").exists()


def test_layer_whose_archive_was_kept_is_unpacked_again(store: Store) -> None:
    image, layer = add_archived(store)
    (layer.diff / "usr/bin/tool").write_text("changed")
    (layer.diff / "etc/tool.conf").unlink()
    findings = repair(store)
    assert {finding.path for finding in findings} >= {b"usr/bin/tool", b"etc/tool.conf"}
    assert all(
        done(finding).startswith("unpacked again; what was there is moved to")
        for finding in findings
    )
    assert (layer.diff / "usr/bin/tool").read_text() == "usr/bin/tool"
    assert quarantined(store) == [f"layers/{layer.chain_id.encoded}"]
    assert check(store) == [] and store.layers.chain(image.top) == [layer]


def test_layer_that_lost_its_files_is_unpacked_again(store: Store) -> None:
    _, layer = add_archived(store)
    os.rename(layer.path, store.root.parent / "elsewhere")
    assert check(store)[0].problem == "has lost its files"
    repair(store)
    assert check(store) == []


def test_other_damaged_layer_is_moved_aside_and_healed_by_a_load(store: Store) -> None:
    image = add_image(store, A, B, names=["x"])
    base = store.layers.chain(image.top)[-1]
    container = store.containers.create(image)
    (base.diff / "etc/motd").write_text("hacked")
    findings = repair(store)
    (finding,) = [found for found in findings if found.path == b"etc/motd"]
    assert str(finding.repair).startswith(f"moved to {store.root}/quarantine/")
    # They could be used before, and cannot be now.
    after = {found.kind: found for found in findings if found.kind != "layer"}
    assert after["image"].key == image.id and after["container"].key == container.name
    assert all(found.is_damage for found in findings)
    assert quarantined(store) == [f"layers/{base.chain_id.encoded}"]
    assert check(store)[0].problem == "has lost its files"
    add_image(store, A, B)
    assert check(store) == []
    assert (base.diff / "etc/motd").read_text() == "hello"


def test_attributes_and_added_files_are_put_right(store: Store) -> None:
    """As after a store was copied without -a: the images stay usable."""
    image = add_image(store, A, B)
    container = store.containers.create(image)
    for layer in store.layers.chain(image.top):
        for path in (layer.diff, *layer.diff.rglob("*")):
            os.utime(path)
            path.chmod(0o700)
        (layer.diff / "added").touch()
    findings = repair(store)
    assert {done(finding) for finding in findings if finding.kind == "layer"} == {"put right"}
    assert check(store) == [] and len(store.containers.trees(container)) == 3
    assert len(list((store.root / "quarantine").glob("*/layers/*/diff/added"))) == 2


def test_nothing_is_moved_of_layers_that_lost_all_files(store: Store) -> None:
    """As where a container engine has removed them from its own store."""
    image = add_image(store, A, B)
    for layer in store.layers.chain(image.top):
        shutil.rmtree(layer.diff)
    repaired = repair(store)
    assert not any(found.repairable or (found.repair and found.repair.done) for found in repaired)
    assert not (store.root / "quarantine").exists()
    add_image(store, A, B)
    assert check(store) == []


def test_layer_in_use_stays(store: Store) -> None:
    image = add_image(store, A, B)
    base = store.layers.chain(image.top)[-1]
    container = store.containers.started(store.containers.create(image), os.getpid())
    (base.diff / "etc/motd").write_text("hacked")
    (finding,) = [found for found in repair(store) if found.path == b"etc/motd"]
    assert finding.repair == Repair(
        False, "it is in use; stop the containers that are based on it first"
    )
    assert finding.is_damage
    assert base.diff.is_dir()
    store.containers.finished(container, 0)
    repair(store)
    assert not base.path.exists()


def test_damaged_blob_of_a_layer_is_done_without(store: Store) -> None:
    _, layer = add_archived(store)
    (blob,) = store.layers.archives.of(layer.diff_id)
    store.blobs.path(blob.digest).write_bytes(b"rubbish")
    repair(store)
    assert store.layers.archives.of(layer.diff_id) == [] and check(store) == []
    assert quarantined(store) == ["blobs/sha256"]


def test_archive_that_is_damaged_too_is_not_believed(store: Store) -> None:
    _, layer = add_archived(store)
    (blob,) = store.layers.archives.of(layer.diff_id)
    (layer.diff / "usr/bin/tool").write_text("changed")
    store.blobs.path(blob.digest).write_bytes(gzip.compress(b"\0" * 10240))
    repair(store)
    assert len(quarantined(store)) == 2 and not layer.path.exists()


def test_lost_configuration_cannot_be_repaired(store: Store) -> None:
    image = add_image(store, A)
    store.blobs.path(image.id).write_bytes(b"rubbish")
    repair(store)
    findings = check(store)
    assert [str(finding) for finding in findings][-1].endswith(
        "has lost its configuration; load it again"
    )
    add_image(store, A)
    assert check(store) == []


def test_leftovers_are_moved_aside(store: Store) -> None:
    loose = store.blobs.put(b"loose")
    layer = add_layer(store, None, A)
    for name in ("layers/stray", "containers/stray", "staging/stray"):
        (store.root / name).mkdir()
        (store.root / name / "f").write_text("precious")
        os.utime(store.root / name, (0, 0))
    findings = repair(store)
    assert all(done(finding) for finding in findings)
    assert check(store) == []
    (run,) = (store.root / "quarantine").iterdir()
    assert (run / "blobs/sha256" / loose.encoded).read_bytes() == b"loose"
    assert (run / "layers" / layer.chain_id.encoded / "diff/etc/motd").is_file()
    assert (run / "containers/stray/f").read_text() == "precious"
    assert not (run / "staging").exists()


def test_container_gets_what_it_lost(store: Store) -> None:
    container = store.containers.create(add_image(store, A), name="box")
    container.upper.rmdir()
    container.work.rmdir()
    assert {done(finding) for finding in repair(store)} == {"made an empty upper and work"}
    assert check(store) == []


def test_what_is_in_the_place_of_a_directory_is_moved_aside(store: Store) -> None:
    container = store.containers.create(add_image(store, A), name="box")
    store.volumes.create("data", {})
    for directory in (container.upper, store.volumes.data("data")):
        directory.rmdir()
        directory.write_text("precious")
    assert [done(finding) for finding in repair(store)] == [
        "made an empty upper",
        "made an empty one",
    ]
    assert check(store) == []
    (run,) = (store.root / "quarantine").iterdir()
    assert (run / "containers" / container.id / "upper").read_text() == "precious"
    assert (run / "volumes/data/_data").read_text() == "precious"


def test_container_that_is_lost_altogether_can_be_removed(store: Store) -> None:
    container = store.containers.create(add_image(store, A), name="box")
    os.rename(container.directory, store.root.parent / "elsewhere")
    (finding,) = repair(store)
    assert finding.repair is None
    store.containers.remove(container)
    assert check(store) == []


def test_rows_that_name_only_what_is_lost_are_forgotten(store: Store) -> None:
    """A tag of no image could be neither used nor removed."""
    lost, other = add_image(store, A, names=["lost:1"]), add_image(store, B, names=["other:1"])
    top, row = other.top, "DELETE FROM images WHERE id = ?"
    with closing(sqlite3.connect(store.root / "store.db")) as raw, raw:
        raw.execute(row, (lost.id,))
        raw.execute("DELETE FROM layers WHERE chain_id = ?", (top,))
    repaired = {finding.table: finding for finding in repair(store) if finding.table}
    assert done(repaired["tags"]) == "forgotten"
    # The configuration may still be there, and the image may be loaded again.
    assert repaired["images"].repair is None and repaired["images"].is_damage
    assert [finding.table for finding in check(store) if finding.table] == ["images"]
    assert [str(tag) for image in store.images.all() for tag in image.tags] == [
        "docker.io/library/other:1"
    ]


def test_commit_cut_short_is_finished(store: Store) -> None:
    layer = add_layer(store, None, A)
    add_image(store, A)
    location = store.root / "containers" / "here"
    os.rename(layer.path, location)
    store.database.write("UPDATE layers SET location = 'containers/here'")
    problems = [finding.problem for finding in repair(store)]
    assert "is not in its place yet: a commit was interrupted" in problems
    assert check(store) == [] and store.layers.get(layer.chain_id) == layer


@pytest.mark.parametrize("repaired", [False, True])
def test_progress_names_what_is_looked_at(store: Store, repaired: bool) -> None:
    image = add_image(store, A)
    seen: list[str] = []
    (repair if repaired else check)(store, report=lambda progress: seen.append(progress.what))
    assert image.top is not None and {image.id.short, image.top.short} == set(seen)


def test_quarantine_is_closed_to_others(store: Store) -> None:
    (store.root / "layers" / "stray").mkdir()
    repair(store)
    assert Path(store.root, "quarantine").stat().st_mode & 0o777 == 0o700


def test_quarantine_of_what_was_added_is_closed_to_others(store: Store) -> None:
    (layer,) = store.layers.chain(add_image(store, A).top)
    (layer.diff / "etc" / "added").touch()
    assert {done(finding) for finding in repair(store)} == {"put right"}
    place = store.root / "quarantine"
    (added,) = place.rglob("added")
    above = [place, *(each for each in added.parents if place in each.parents)]
    assert {each.stat().st_mode & 0o777 for each in above} == {0o700} and len(above) == 6
