"""Who needs which layer."""

from __future__ import annotations

from layerstore import Image
from mount_tools.cli.layer_use import Uses, names_of
from tests.helpers.cli import Cli


def test_layers_are_counted_over_the_whole_store(cli: Cli, child: Image, base: Image) -> None:
    with cli.store() as store:
        store.containers.create(base, name="box")
        uses = Uses(store)
    (root,) = uses.roots
    (above,) = root.children
    assert (root.by_images, root.by_containers, above.by_images, above.by_containers) == (
        2,
        1,
        1,
        0,
    )
    assert (names_of(root), names_of(above)) == (["busy:1"], ["changed:1"])
    assert (uses.total(), uses.in_use()) == (1017, 1006)
    assert uses.shared_and_unique(child) == (1006, 11)
    assert uses.shared_and_unique(base) == (1006, 0)
