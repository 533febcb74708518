"""Mounts taken from other containers: the volumes and binds, and whose go first."""

from __future__ import annotations

import pytest

from layerstore import Store
from layerstore.errors import NoSuchContainer, StoreError
from layerstore.volumes import VolumeUse
from mount_tools.container.host_config import HostConfig
from mount_tools.container.mount_words import Volume
from mount_tools.container.volumes_from import volumes_from
from tests.helpers.images import add_image


@pytest.fixture
def store(empty_store: Store) -> Store:
    """A store with two containers that have mounts."""
    store = empty_store
    image = add_image(store, {"f": b"x"})
    host = HostConfig(volumes=(Volume("/a", "/bound"), Volume("/r", "/read", read_only=True)))
    uses = [VolumeUse("data", "/d"), VolumeUse("f" * 64, "/u", named=False)]
    config = {"HostConfig": host.fields}
    store.containers.create(image, name="one", config=config, volumes=uses)  # type: ignore[arg-type]
    store.containers.create(image, name="two", volumes=[VolumeUse("other", "/d")])
    return store


def test_what_a_container_has_is_taken(store: Store) -> None:
    assert volumes_from(store, ["one"], []) == (
        [Volume("/a", "/bound"), Volume("/r", "/read", read_only=True)],
        [
            VolumeUse("data", "/d", filled=True),
            VolumeUse("f" * 64, "/u", named=False, filled=True),
        ],
    )
    binds, uses = volumes_from(store, ["one:ro"], [])
    assert all(bind.read_only for bind in binds) and all(use.read_only for use in uses)


def test_own_mounts_and_earlier_containers_go_first(store: Store) -> None:
    binds, uses = volumes_from(store, ["two", "one:rw"], ["/bound", "/u"])
    assert [bind.target for bind in binds] == ["/read"]
    assert [(use.volume, use.target) for use in uses] == [("other", "/d")]


def test_what_is_wrong(store: Store) -> None:
    with pytest.raises(NoSuchContainer):
        volumes_from(store, ["none"], [])
    with pytest.raises(StoreError, match=r"^invalid mode: x$"):
        volumes_from(store, ["one:x"], [])
    with pytest.raises(StoreError, match="invalid volumes-from specification: :ro"):
        volumes_from(store, [":ro"], [])
