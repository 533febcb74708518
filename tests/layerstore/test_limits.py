"""The bounds of an archive."""

from __future__ import annotations

import pytest

from layerstore.errors import LimitExceeded
from layerstore.limits import DEFAULT, MAX_LAYERS, Limits
from tests.layerstore.archives import Site, file, folder, whole
from unionfs import MAX_LOWERS


def test_an_image_with_the_most_layers_can_be_run() -> None:
    """A container adds lowers of its own: what init needs, and the layers of a freeze."""
    assert DEFAULT.layers == MAX_LAYERS < MAX_LOWERS


def test_the_default_bounds_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        DEFAULT.entries = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "limits",
    [Limits(entries=2), Limits(size=1), Limits(names=4)],
    ids=["entries", "size", "names"],
)
def test_an_archive_over_one_bound_is_refused(site: Site, limits: Limits) -> None:
    archive = whole(folder(b"dir"), file(b"dir/a", b"a"), file(b"dir/b", b"b"))
    site.unpack(archive)
    with pytest.raises(LimitExceeded):
        site.unpack(archive, limits=limits)
