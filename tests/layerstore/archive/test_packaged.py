"""An image as an archive holds it."""

from __future__ import annotations

import hashlib

from layerstore.archive.packaged import Packaged


def test_the_id_of_an_image_is_the_digest_of_its_configuration() -> None:
    config = b'{"architecture":"amd64","os":"linux"}'
    image = Packaged(config, ("layer.tar",))
    assert image.id == "sha256:" + hashlib.sha256(config).hexdigest()


def test_the_id_depends_on_every_byte_and_on_nothing_else() -> None:
    image = Packaged(b"{}", ("layer.tar",))
    assert Packaged(b"{ }", ("layer.tar",)).id != image.id
    assert Packaged(b"{}", (), parent="other").id == image.id
