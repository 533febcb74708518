"""Removing images: docker's rules, in docker's words.  Source: moby image_delete.go."""

from __future__ import annotations

import os

import pytest

from layerstore import Container, Image, Store
from layerstore.errors import Conflict, InvalidReference, NotFound
from layerstore.images.removal import Removed, is_single_reference
from layerstore.oci.reference import parse_reference
from tests.helpers.images import add_image, add_layer, some_digest

A, B, C = {"a": b"1"}, {"b": b"22"}, {"c": b"333"}


def lines(done: list[Removed]) -> list[str]:
    return [f"{line.what}: {line.text}" for line in done]


def deleted(store: Store, image: Image, layers: int) -> list[str]:
    """Return the lines of an image that goes with its topmost `layers`."""
    chain = store.layers.chain(image.top)[:layers]
    return [f"Deleted: {image.id}", *(f"Deleted: {layer.chain_id}" for layer in chain)]


def run(store: Store, image: Image, name: str = "box") -> Container:
    return store.containers.started(store.containers.create(image, name=name), os.getpid())


def trees(store: Store) -> set[str]:
    return set(os.listdir(store.root / "layers"))


def test_last_name_takes_the_image_and_its_layers_the_topmost_first(store: Store) -> None:
    image = add_image(store, A, B, names=["x:1"])
    expected = ["Untagged: x:1", *deleted(store, image, 2)]
    assert lines(store.images.remove("x:1")) == expected
    assert trees(store) == set() and list(store.blobs.all()) == []
    with pytest.raises(NotFound, match="No such image: x:1"):
        store.images.remove("x:1")


def test_name_is_shown_as_people_write_it(store: Store) -> None:
    add_image(store, A, names=["x", "y"])
    assert lines(store.images.remove("docker.io/library/x")) == ["Untagged: x:latest"]


def test_other_names_keep_the_image(store: Store) -> None:
    image = add_image(store, A, names=["x:1", "x:2", "y:1"])
    assert lines(store.images.remove("x:1")) == ["Untagged: x:1"]
    assert store.images.get(image.id).size == 1


def test_shared_layers_stay_with_the_other_image(store: Store) -> None:
    add_image(store, A, names=["base"])
    image = add_image(store, A, B, names=["x"])
    expected = ["Untagged: x:latest", *deleted(store, image, 1)]
    assert lines(store.images.remove("x")) == expected
    assert len(trees(store)) == 1


def test_last_tag_of_a_repository_takes_its_digests_along(store: Store) -> None:
    image = add_image(store, A, names=["x:1", "x:2", "y:1"])
    for repository in ("x", "y"):
        store.images.add_repo_digest(image, f"docker.io/library/{repository}", some_digest("m"))
    assert lines(store.images.remove("x:1")) == ["Untagged: x:1"]
    assert lines(store.images.remove("x:2")) == [
        "Untagged: x:2",
        f"Untagged: x@{some_digest('m')}",
    ]
    expected = ["Untagged: y:1", f"Untagged: y@{some_digest('m')}", *deleted(store, image, 1)]
    assert lines(store.images.remove("y:1")) == expected


def test_by_id_all_names_of_one_repository_go(store: Store) -> None:
    image = add_image(store, A, names=["x:1"])
    store.images.add_repo_digest(image, "docker.io/library/x", some_digest("m"))
    expected = ["Untagged: x:1", f"Untagged: x@{some_digest('m')}", *deleted(store, image, 1)]
    assert lines(store.images.remove(image.id.short)) == expected


def test_by_id_names_of_several_are_in_the_way(store: Store) -> None:
    image = add_image(store, A, names=["x:1", "y:1"])
    with pytest.raises(Conflict) as caught:
        store.images.remove(image.id.short)
    assert str(caught.value) == (
        f"conflict: unable to delete {image.id.short} (must be forced) - "
        "image is referenced in multiple repositories"
    )
    assert len(store.images.get(image.id).tags) == 2
    expected = ["Untagged: x:1", "Untagged: y:1", *deleted(store, image, 1)]
    assert lines(store.images.remove(image.id.encoded, force=True)) == expected


def test_container_holds_the_last_name(store: Store) -> None:
    image = add_image(store, A, names=["x"])
    container = store.containers.create(image, name="box")
    with pytest.raises(Conflict) as caught:
        store.images.remove("x")
    assert str(caught.value) == (
        'conflict: unable to remove repository reference "x" (must force) - container '
        f"{container.short} is using its referenced image {image.id.short}"
    )
    store.images.tag(image, "y")
    assert lines(store.images.remove("x")) == ["Untagged: x:latest"]


def test_stopped_container_is_overcome_by_force_and_keeps_its_layers(store: Store) -> None:
    image = add_image(store, A, B, names=["x"])
    container = store.containers.create(image)
    with pytest.raises(Conflict) as caught:
        store.images.remove(image.id.short)
    assert str(caught.value) == (
        f"conflict: unable to delete {image.id.short} (must be forced) - "
        f"image is being used by stopped container {container.short}"
    )
    assert lines(store.images.remove("x", force=True)) == [
        "Untagged: x:latest",
        f"Deleted: {image.id}",
    ]
    assert len(store.containers.lowers(container)) == 2
    store.containers.remove(container)
    assert trees(store) == set(), "the container was the last to need them"


def test_running_container_is_in_the_way_even_of_force(store: Store) -> None:
    image = add_image(store, A, names=["x"])
    container = run(store, image)
    for force in (False, True):
        with pytest.raises(Conflict) as caught:
            store.images.remove(image.id.short, force=force)
        assert str(caught.value) == (
            f"conflict: unable to delete {image.id.short} (cannot be forced) - "
            f"image is being used by running container {container.short}"
        )
    assert lines(store.images.remove("x", force=True)) == ["Untagged: x:latest"]
    assert store.images.get(image.id).references == ()
    store.containers.finished(container, 0)


def test_children_are_in_the_way_even_of_force(store: Store) -> None:
    base = add_image(store, A)
    add_image(store, A, B, parent=base.id, names=["x"])
    for force in (False, True):
        with pytest.raises(Conflict) as caught:
            store.images.remove(base.id.short, force=force)
        assert str(caught.value) == (
            f"conflict: unable to delete {base.id.short} (cannot be forced) - "
            "image has dependent child images"
        )


def test_name_of_a_parent_goes_and_the_parent_stays(store: Store) -> None:
    base = add_image(store, A, names=["base"])
    add_image(store, A, B, parent=base.id, names=["x"])
    assert lines(store.images.remove("base")) == ["Untagged: base:latest"]
    assert store.images.get(base.id).references == ()


def test_parents_without_a_name_go_too_unless_told(store: Store) -> None:
    base = add_image(store, A, names=["kept"])
    middle = add_image(store, A, B, parent=base.id)
    top = add_image(store, A, B, C, parent=middle.id, names=["x"])
    rehearsal = ["Untagged: x:latest", *deleted(store, top, 1)]
    with store.database.rehearsal():
        removal = store.images.removal()
        removal.remove("x", prune=False)
        assert lines(removal.done) == rehearsal
    expected = [*rehearsal, *deleted(store, middle, 1)]
    assert lines(store.images.remove("x")) == expected
    assert store.images.get(base.id) == base


def test_parent_in_use_stays_quietly(store: Store) -> None:
    base = add_image(store, A)
    top = add_image(store, A, B, parent=base.id, names=["x"])
    store.containers.create(base)
    expected = ["Untagged: x:latest", *deleted(store, top, 1)]
    assert lines(store.images.remove("x")) == expected


def test_leased_layer_stays_until_the_lease_ends(store: Store) -> None:
    image = add_image(store, A, B, names=["x"])
    (top, base) = store.layers.chain(image.top)
    with store.leases.lease("layer", base.chain_id):
        expected = ["Untagged: x:latest", f"Deleted: {image.id}", f"Deleted: {top.chain_id}"]
        assert lines(store.images.remove("x")) == expected
        assert store.layers.get(base.chain_id).diff.is_dir()
    assert trees(store) == {base.chain_id.encoded}
    Store.open(store.root, sync=False).close()
    assert trees(store) == set(), "and goes with the next opening after that"


def test_blob_of_a_layer_goes_with_the_last_layer_of_its_diff_id(store: Store) -> None:
    image = add_image(store, A, names=["x"])
    other = add_image(store, B, A, names=["y"])
    (layer,) = store.layers.chain(image.top)
    with store.leases.lease("work", "test"):
        blob = store.blobs.put(b"compressed")
        store.layers.archives.add(layer.diff_id, blob, "application/x", 10)
    store.images.remove("x")
    assert store.blobs.has(blob), "the same diff is in another chain"
    store.images.remove(other.id.short)
    assert list(store.blobs.all()) == [] and trees(store) == set()


def test_layer_published_by_nobody_is_not_taken_for_a_child(store: Store) -> None:
    image = add_image(store, A, names=["x"])
    add_layer(store, image.top, B)
    assert lines(store.images.remove("x")) == ["Untagged: x:latest", f"Deleted: {image.id}"]


@pytest.mark.parametrize("text", ["", "X", "a:b:c"])
def test_what_is_no_name(store: Store, text: str) -> None:
    with pytest.raises(InvalidReference):
        store.images.remove(text)


def test_single_reference() -> None:
    digest = f"@{some_digest('m')}"

    def single(*names: str) -> bool:
        return is_single_reference(tuple(parse_reference(name) for name in names))

    assert not single()
    assert single("x:1") and single("x" + digest)
    assert single("x:1", "x" + digest)
    assert not single("x:1", "x:2") and not single("x:1", "y" + digest)
    assert not single("x" + digest, "y" + digest)
