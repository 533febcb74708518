"""A command line with a store of a few small images."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore import Image
from tests.helpers.cli import Cli
from tests.helpers.images import add_image

BASE = {"etc/motd": b"hello\n", "bin/sh": b"x" * 1_000}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """`pyunion` on an empty store."""
    made = Cli(tmp_path / "store")
    made.store().close()
    return made


@pytest.fixture
def base(cli: Cli) -> Image:
    """An image of one layer, busy:1, of the year 2020."""
    with cli.store() as store:
        return add_image(
            store,
            BASE,
            names=["busy:1"],
            created="2020-02-03T04:05:06.5Z",
            history=[{"created": "2020-02-03T04:05:06.5Z", "comment": "Imported from -"}],
            config={"Cmd": ["/bin/sh"], "Env": ["A=b"], "Labels": {"of": "base", "x": "1"}},
        )


@pytest.fixture
def child(cli: Cli, base: Image) -> Image:
    """An image committed from `base`, changed:1, with one layer more, of the year 2021."""
    steps = [
        {"created": "2020-02-03T04:05:06.5Z", "comment": "Imported from -"},
        {
            "created": "2021-02-03T04:05:06Z",
            "created_by": "/bin/sh -c echo hi > /etc/new; rm /etc/motd; mkdir /a /a/b",
            "comment": "a message",
        },
    ]
    with cli.store() as store:
        return add_image(
            store,
            BASE,
            {"etc/new": b"hi\n", "etc/motd": b"changed\n"},
            names=["changed:1"],
            parent=base.id,
            created="2021-02-03T04:05:06Z",
            history=steps,
            author="Me <me@x>",
            config={"Cmd": ["/bin/sh"], "Labels": {}},
        )
