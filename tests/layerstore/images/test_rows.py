"""Names and ids of images: found as docker finds them, moved and never copied."""

from __future__ import annotations

import pytest

from layerstore import Store
from layerstore.errors import InvalidReference, NotFound
from layerstore.oci.reference import Reference, familiar, parse_reference
from tests.helpers.images import add_image, some_digest

MANIFEST = some_digest("manifest")


def test_image_is_found_by_name_and_by_id(store: Store) -> None:
    image = add_image(store, {"f": b"x"}, names=["debian:12", "registry.example/app"])
    store.images.add_repo_digest(image, "docker.io/library/debian", MANIFEST)
    image = store.images.get(image.id)
    for text in (
        "debian:12",
        "docker.io/library/debian:12",
        "registry.example/app",
        "registry.example/app:latest",
        f"debian@{MANIFEST}",
        f"debian:other@{MANIFEST}",
        image.id,
        image.id.encoded,
        image.id.short,
        image.id.encoded[:4],
        image.id[:20],
    ):
        assert store.images.resolve(text) == image, text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nginx", "nginx:latest"),
        ("debian:13", "debian:13"),
        (f"debian@{MANIFEST}", f"debian@{MANIFEST}"),
        ("ab" * 32, "sha256:" + "ab" * 32),
        ("sha256:" + "ab" * 32, "sha256:" + "ab" * 32),
        ("0123", "0123:latest"),
    ],
)
def test_what_is_not_there_is_said_as_docker_says_it(store: Store, text: str, shown: str) -> None:
    with pytest.raises(NotFound) as caught:
        store.images.resolve(text)
    assert str(caught.value) == f"No such image: {shown}"


def test_name_goes_before_id(store: Store) -> None:
    one = add_image(store, {"f": b"1"})
    other = add_image(store, {"f": b"2"}, names=[one.id.short])
    assert store.images.resolve(one.id.short) == other
    assert store.images.resolve(one.id.encoded).id == one.id


def test_beginning_of_several_ids_is_refused(store: Store) -> None:
    beginnings: set[str] = set()
    while True:
        image = add_image(store, created=f"2024-01-01T00:00:00.{len(beginnings):09d}Z")
        first = image.id.encoded[:2]
        if first in beginnings:
            break
        beginnings.add(first)
    with pytest.raises(InvalidReference) as caught:
        store.images.resolve(first)
    assert str(caught.value).startswith(f"multiple IDs found with provided prefix: {first} (")
    assert image.id.short in str(caught.value) and "give more digits" in str(caught.value)


def test_text_that_is_no_name_is_refused(store: Store) -> None:
    with pytest.raises(InvalidReference, match="must be lowercase"):
        store.images.resolve("Debian")


def test_tag_moves(store: Store) -> None:
    one, other = add_image(store, {"f": b"1"}), add_image(store, {"f": b"2"})
    assert store.images.tag(one, "x") is None
    assert store.images.tag(one, "x:latest") is None
    assert store.images.tag(other, "x") == one.id
    assert store.images.get(one.id).tags == ()
    assert [familiar(tag) for tag in store.images.get(other.id).tags] == ["x:latest"]
    assert store.images.resolve("x") == store.images.get(other.id)


def test_tagging_what_went_away(store: Store) -> None:
    with pytest.raises(NotFound, match="No such image"):
        store.images.tag(some_digest("gone"), "x")
    image = add_image(store)
    with pytest.raises(InvalidReference):
        store.images.tag(image, "X")


def test_a_digest_of_several_images_means_the_last_that_got_it(store: Store) -> None:
    one, other = add_image(store, {"f": b"1"}), add_image(store, {"f": b"2"})
    repository = "docker.io/library/x"
    by_digest = Reference(repository, None, MANIFEST)
    for image in (one, other, one):
        store.images.add_repo_digest(image, repository, MANIFEST)
        assert store.images.resolve(f"x@{MANIFEST}").id == image.id
        assert store.images.named(by_digest) == image.id
    assert [found.id for found in store.images.with_digest(repository, MANIFEST)] == [
        one.id,
        other.id,
    ]
    for image in (one, other):
        assert store.images.get(image.id).repo_digests == (by_digest,)
    removed = store.images.remove(f"x@{MANIFEST}")
    assert [line.text for line in removed[:2]] == [f"x@{MANIFEST}", one.id]
    assert store.images.resolve(f"x@{MANIFEST}").id == other.id


def test_untag(store: Store) -> None:
    image = add_image(store, names=["x", "x:2"])
    store.images.add_repo_digest(image, "docker.io/library/x", MANIFEST)
    assert store.images.untag(image.id, parse_reference("x"))
    assert not store.images.untag(image.id, parse_reference("x"))
    assert store.images.untag(image.id, parse_reference(f"x@{MANIFEST}"))
    image = store.images.get(image.id)
    assert [familiar(name) for name in image.references] == ["x:2"]
