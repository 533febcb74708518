"""`pyunion rmi`: what goes, what stays, and who is in the way."""

from __future__ import annotations

import pytest

from layerstore import Image
from tests.helpers.cli import Cli


def test_names_go_first_then_the_image_and_its_layers_top_first(
    cli: Cli, child: Image, base: Image
) -> None:
    cli.ok("tag", "changed:1", "changed:2")
    assert cli.ok("rmi", "changed:2") == "Untagged: changed:2\n"
    assert cli.ok("rmi", "changed:1") == (
        f"Untagged: changed:1\nDeleted: {child.id}\nDeleted: {child.top}\n"
    )
    assert cli.ok("image", "rm", base.id.short) == (
        f"Untagged: busy:1\nDeleted: {base.id}\nDeleted: {base.top}\n"
    )


def test_one_after_the_other_and_errors_last(cli: Cli, base: Image) -> None:
    cli.ok("tag", "busy:1", "busy:2")
    result = cli("rmi", "nope", "busy:2", "Nope")
    assert result.status == 1
    assert result.out == "Untagged: busy:2\n"
    assert result.err == (
        "Error: No such image: nope\n"
        "Error: invalid reference format: repository name (library/Nope) must be lowercase\n"
    )
    assert cli.ok("images", "-q") == f"{base.id.short}\n"


def test_force_makes_a_missing_image_no_failure(cli: Cli) -> None:
    assert cli("rmi", "-f", "nope") == (0, "", "Error: No such image: nope\n")


def test_conflicts_name_what_blocks(cli: Cli, child: Image, base: Image) -> None:
    cli.ok("tag", "busy:1", "other:1")
    with cli.store() as store:
        box = store.containers.create(child, name="box", image_name="changed:1")
    for name, complaint in (
        (
            "changed:1",
            'unable to remove repository reference "changed:1" (must force) - container '
            f"{box.short} is using its referenced image {child.id.short}",
        ),
        (
            child.id.short,
            f"unable to delete {child.id.short} (must be forced) - image is being used by "
            f"stopped container {box.short}",
        ),
        (
            base.id.short,
            f"unable to delete {base.id.short} (cannot be forced) - "
            "image has dependent child images",
        ),
    ):
        assert cli.fails("rmi", name) == f"Error: conflict: {complaint}\n"
    # Its layers stay with the container.
    assert cli.ok("rmi", "-f", "changed:1") == f"Untagged: changed:1\nDeleted: {child.id}\n"


@pytest.mark.usefixtures("base")
def test_an_id_of_an_image_with_names_in_several_repositories(cli: Cli, base: Image) -> None:
    cli.ok("tag", "busy:1", "other:1")
    assert cli.fails("rmi", base.id.short) == (
        f"Error: conflict: unable to delete {base.id.short} (must be forced) - "
        "image is referenced in multiple repositories\n"
    )
    assert cli.ok("rmi", "-f", base.id.short).startswith(
        f"Untagged: busy:1\nUntagged: other:1\nDeleted: {base.id}\n"
    )
