"""An image as an archive holds it."""

from __future__ import annotations

import hashlib

from layerstore.archive.packaged import Lineage, Packaged
from layerstore.oci.documents import HistoryEntry


def test_the_id_of_an_image_is_the_digest_of_its_configuration() -> None:
    config = b'{"architecture":"amd64","os":"linux"}'
    image = Packaged(config, ("layer.tar",))
    assert image.id == "sha256:" + hashlib.sha256(config).hexdigest()


def test_the_id_depends_on_every_byte_and_on_nothing_else() -> None:
    image = Packaged(b"{}", ("layer.tar",))
    assert Packaged(b"{ }", ("layer.tar",)).id != image.id
    assert Packaged(b"{}", (), parent="other").id == image.id


def lineage(*created_by: str, layers: int = 1) -> Lineage:
    return Lineage(tuple(HistoryEntry("", line) for line in created_by), layers)


def test_an_image_follows_the_one_with_all_but_its_last_step() -> None:
    assert lineage("a", "b").follows(lineage("a"))
    assert not lineage("a", "b", "c").follows(lineage("a"))
    assert not lineage("x", "b").follows(lineage("a"))
    assert not lineage("a").follows(lineage("a"))


def test_without_a_history_the_one_with_more_layers_follows() -> None:
    assert lineage(layers=2).follows(lineage(layers=1))
    assert not lineage(layers=2).follows(lineage(layers=2))
