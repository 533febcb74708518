"""`pyunion prune` and its like: asking, what goes, and telling beforehand."""

from __future__ import annotations

import pytest

from layerstore import Image
from tests.helpers.cli import Cli
from tests.helpers.images import add_image

NOTHING = "Total reclaimed space: 0B\n"
ASKED = "Are you sure you want to continue? [y/N] "


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (("image", "prune"), "This will remove all dangling images.\n"),
        (
            ("image", "prune", "-a"),
            "This will remove all images without at least one container associated to them.\n",
        ),
        (("container", "prune"), "This will remove all stopped containers.\n"),
        (
            ("prune",),
            "This will remove:\n  - all stopped containers\n  - all dangling images\n"
            "  - all layers and blobs that are not needed\n\n",
        ),
    ],
)
def test_prune_asks_and_takes_only_yes(cli: Cli, words: tuple[str, ...], warning: str) -> None:
    assert cli.ok(*words, given="n\n") == f"WARNING! {warning}{ASKED}"
    assert cli.ok(*words, given="y\n") == f"WARNING! {warning}{ASKED}{NOTHING}"
    assert cli.ok(*words, "-f") == NOTHING


def test_dangling_images_go(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        lone = add_image(store, {"x": b"y" * 5})
    lines = f"deleted: {lone.id}\ndeleted: {lone.top}\n\n"
    assert cli.ok("image", "prune", "--dry-run") == (
        f"Would delete Images:\n{lines}Total reclaimable space: 5B\n"
    )
    assert cli.ok("images", "-q") == f"{lone.id.short}\n{base.id.short}\n"
    assert cli.ok("image", "prune", "-f") == (
        f"Deleted Images:\n{lines}Total reclaimed space: 5B\n"
    )
    assert cli.ok("images", "-q") == f"{base.id.short}\n"


def test_unused_images_go_with_all(cli: Cli, child: Image, base: Image) -> None:
    with cli.store() as store:
        store.containers.create(base, name="box")
    assert cli.ok("image", "prune", "-af") == (
        f"Deleted Images:\nuntagged: changed:1\ndeleted: {child.id}\ndeleted: {child.top}\n\n"
        "Total reclaimed space: 11B\n"
    )
    assert cli.ok("images", "-q") == f"{base.id.short}\n"


def test_containers_and_then_the_images_they_held(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        box = store.containers.create(base, name="box")
        (box.upper / "x").write_bytes(b"y" * 100)
    told = (
        f"Deleted Containers:\n{box.id}\n\n"
        f"Deleted Images:\nuntagged: busy:1\ndeleted: {base.id}\ndeleted: {base.top}\n\n"
        "Total reclaimed space: 1.106kB\n"
    )
    would = told.replace("Deleted", "Would delete").replace("reclaimed", "reclaimable")
    assert cli.ok("prune", "-a", "--dry-run") == would
    assert cli.ok("ps", "-aq") == f"{box.short}\n"
    assert cli.ok("prune", "-a", "--force") == told
    assert cli.ok("images", "-q") + cli.ok("ps", "-aq") == ""


@pytest.mark.usefixtures("base")
def test_filters_spare(cli: Cli) -> None:
    for text in ("until=2019-01-01", "label=no", "label!=of"):
        assert cli.ok("image", "prune", "-af", "--filter", text) == NOTHING
    assert "untagged: busy:1\n" in cli.ok("image", "prune", "-af", "--filter", "label=of=base")


def test_refusals(cli: Cli) -> None:
    assert cli.fails("image", "prune", "--filter", "bad=1") == "Error: Invalid filter 'bad'\n"
    assert "foo" in cli.fails("image", "prune", "--filter", "until=foo")
