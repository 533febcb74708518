"""Filters of a listing: what each lets through."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from layerstore import Image, Store
from layerstore.errors import NotFound, StoreError
from layerstore.images.filters import ImageFilters
from layerstore.oci.reference import familiar
from tests.helpers.images import add_image, some_digest


@pytest.fixture
def images(store: Store) -> dict[str, Image]:
    """A base, a child committed from it, and a dangling, a parent without a name, its child."""
    made: dict[str, Image] = {}

    def add(
        name: str, day: int, names: Sequence[str] = (), parent: str = "", **more: object
    ) -> None:
        above = made[parent].id if parent else None
        created = f"2024-01-{day:02d}T00:00:00Z"
        made[name] = add_image(
            store, {name: b"x"}, names=names, parent=above, created=created, **more
        )

    add("base", 1, ["debian:12", "mine/base"])
    add("child", 2, ["app:1"], "base", config={"Labels": {"tier": "web", "empty": ""}})
    add("dangling", 3)
    add("hidden", 4)
    add("top", 5, ["app:2"], "hidden", config={"Labels": {"tier": "db"}})
    return {name: store.images.get(image.id) for name, image in made.items()}


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (ImageFilters(), "top dangling child base"),
        (ImageFilters(dangling=True), "dangling"),
        (ImageFilters(dangling=False), "top child base"),
        (ImageFilters(before="app:1"), "base"),
        (ImageFilters(since="app:1"), "top dangling"),
        (ImageFilters(since="debian:12", before="app:2"), "dangling child"),
        (ImageFilters(until_ns=1704153600 * 10**9), "child base"),
        (ImageFilters(labels=(("tier", None),)), "top child"),
        (ImageFilters(labels=(("tier", "web"),)), "child"),
        (ImageFilters(labels=(("tier", "web"), ("empty", ""))), "child"),
        (ImageFilters(labels=(("tier", "web"), ("other", None))), ""),
        (ImageFilters(references=("app",)), "top child"),
        (ImageFilters(references=("app:1", "debian:*")), "child base"),
        (ImageFilters(references=("*:*",)), "top child base"),
        (ImageFilters(references=("nothing",)), ""),
        (ImageFilters(references=("app",), labels=(("tier", "db"),)), "top"),
    ],
)
def test_what_is_let_through(
    store: Store, images: dict[str, Image], filters: ImageFilters, names: str
) -> None:
    found = [image.id for image in store.images.list(filters)]
    assert found == [images[name].id for name in names.split()]


def test_intermediate_images_are_listed_when_asked_for(
    store: Store, images: dict[str, Image]
) -> None:
    everything = store.images.list(intermediate=True)
    assert [image.id for image in everything] == [
        images[name].id for name in ("top", "hidden", "dangling", "child", "base")
    ]


def test_reference_filter_leaves_only_the_names_that_match(
    store: Store, images: dict[str, Image]
) -> None:
    (found,) = store.images.list(ImageFilters(references=("debian",)))
    assert [familiar(name) for name in found.references] == ["debian:12"]


def test_image_named_by_digest_only_is_dangling(store: Store) -> None:
    image = add_image(store, {"f": b"x"})
    store.images.add_repo_digest(image, "docker.io/library/x", some_digest("m"))
    (found,) = store.images.list(ImageFilters(dangling=True))
    assert found.id == image.id and len(found.repo_digests) == 1
    assert store.images.list(ImageFilters(references=("x",)))


def test_before_an_image_that_is_not_there(store: Store) -> None:
    with pytest.raises(NotFound, match="No such image: x:latest"):
        store.images.list(ImageFilters(before="x"))


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("debian", "debian:12", True),
        ("deb*", "debian:12", True),
        ("deb*", "mine/debian:12", False),
        ("*/*", "mine/debian:12", True),
        ("debian:1?", "debian:12", True),
        ("debian:1[2-3]", "debian:12", True),
        ("debian:1[^2]", "debian:12", False),
        (r"debian\:12", "debian:12", True),
        ("debian.12", "debian:12", False),
        ("docker.io/library/debian", "debian:12", False),
    ],
)
def test_pattern_is_one_of_gos(store: Store, pattern: str, name: str, expected: bool) -> None:
    add_image(store, names=[name])
    assert bool(store.images.list(ImageFilters(references=(pattern,)))) is expected


@pytest.mark.parametrize("pattern", ["a[", "a\\", "[]", "[b-a]"])
def test_pattern_that_is_none(store: Store, pattern: str) -> None:
    with pytest.raises(StoreError, match="syntax error in pattern"):
        store.images.list(ImageFilters(references=(pattern,)))
