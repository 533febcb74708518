"""What inspect says of an image that has next to nothing."""

from __future__ import annotations

from layerstore import Store
from tests.helpers.images import add_image


def test_image_of_nothing(store: Store) -> None:
    image = add_image(store, config=None)
    found = store.images.inspect(image)
    assert found["RepoTags"] == [] and found["RepoDigests"] == []
    assert found["RootFS"] == {"Type": "layers"}
    assert found["GraphDriver"] == {"Data": {}, "Name": "pyunion"}
    assert found["Metadata"] == {"LastTagTime": None}
    assert "Variant" not in found and "OsVersion" not in found
