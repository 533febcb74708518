"""A container: its frozen layers, and how much it wrote."""

from __future__ import annotations

import os

import pytest

from layerstore import Container, Store
from layerstore.errors import StoreError
from tests.helpers.images import add_image
from tests.layerstore.diff.test_tree_walk import deepen


@pytest.fixture
def container(store: Store) -> Container:
    return store.containers.create(add_image(store, {"a": b"1"}, names=["x"]), name="box")


def test_frozen_layers_lie_between_the_upper_and_the_base(
    store: Store, container: Container
) -> None:
    base = store.containers.lowers(container)
    directory = container.directory / "layers"
    for number in (1, 2, 10):
        (directory / str(number) / "diff").mkdir(parents=True)
    (directory / "11").mkdir()  # a freeze that was cut short
    own = [directory / str(number) / "diff" for number in (10, 2, 1)]
    assert store.containers.lowers(container) == own + base
    container = store.containers.update(container, published=2)
    assert store.containers.lowers(container) == own[:1] + base
    assert container.frozen() == [(10, directory / "10")]


def test_size_is_of_what_the_container_wrote(store: Store, container: Container) -> None:
    upper = container.upper
    (upper / "d").mkdir()
    (upper / "d" / "f").write_bytes(b"x" * 1000)
    os.link(upper / "d" / "f", upper / "g")
    (upper / "l").symlink_to("f" * 100)
    frozen = container.directory / "layers" / "1" / "diff"
    frozen.mkdir(parents=True)
    (frozen / "f").write_bytes(b"y" * 10)
    assert container.size() == 1010
    deepen(container.upper)
    assert container.size() == 1010 + len(b"content")
    store.containers.remove(container)  # which pytest cannot


def test_number_of_the_next_frozen_layer_was_never_used(store: Store, container: Container) -> None:
    directory = container.directory / "layers"
    assert container.next_frozen() == directory / "1"
    (directory / "11").mkdir()  # a freeze that was cut short
    assert container.next_frozen() == directory / "12"
    assert store.containers.update(container, published=20).next_frozen() == directory / "21"


def test_a_status_that_is_none_is_damage(store: Store, container: Container) -> None:
    store.database.write("UPDATE containers SET status = 'asleep'")
    with pytest.raises(StoreError, match="a container has the status 'asleep'"):
        store.containers.get(container.id)
