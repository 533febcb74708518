"""`pyunion tag`."""

from __future__ import annotations

import pytest

from layerstore import Image
from tests.helpers.cli import Cli


def test_tagging_is_silent_and_takes_ids(cli: Cli, base: Image) -> None:
    assert cli.ok("tag", base.id.short, "other:2") == ""
    assert cli.ok("image", "tag", "busy:1", "host:5000/x/y") == ""
    assert cli.ok("images", "--format", "{{.Repository}}:{{.Tag}}") == (
        "busy:1\nother:2\nhost:5000/x/y:latest\n"
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nope", "x"), "Error: No such image: nope:latest"),
        (
            ("busy:1", "a:b:c"),
            'Error: error parsing reference: "a:b:c" is not a valid repository/tag: '
            "invalid reference format",
        ),
        (
            ("busy:1", "sha256:2"),
            "Error: refusing to create an ambiguous tag using digest algorithm as name",
        ),
        (
            ("busy:1", f"a@sha256:{'0' * 64}"),
            "Error: refusing to create a tag with a digest reference",
        ),
    ],
)
@pytest.mark.usefixtures("base")
def test_refusals(cli: Cli, words: tuple[str, ...], complaint: str) -> None:
    assert cli.fails("tag", *words) == f"{complaint}\n"


def test_both_names_are_needed(cli: Cli) -> None:
    assert cli.fails("tag", "a").startswith('"pyunion tag" requires exactly 2 arguments.\n')
