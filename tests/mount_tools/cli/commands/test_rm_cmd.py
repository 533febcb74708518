"""`pyunion rm`."""

from __future__ import annotations

import os

from layerstore import Image
from tests.helpers.cli import Cli


def test_each_name_is_echoed_as_it_was_given(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        one = store.containers.create(base, name="one")
        store.containers.create(base, name="two")
    assert cli.ok("rm", one.id[:5], "/two") == f"{one.id[:5]}\n/two\n"
    assert cli.ok("ps", "-aq") == ""


def test_what_is_missing_fails_unless_forced(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        store.containers.create(base, name="one")
    assert cli("rm", "nope", "one") == (1, "one\n", "Error: No such container: nope\n")
    assert cli("rm", "-f", "nope") == (0, "", "Error: No such container: nope\n")


def test_a_running_container_stays(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        box = store.containers.create(base, name="box")
        store.containers.started(box, os.getpid())
    assert cli.fails("rm", "box") == (
        f"Error: You cannot remove a running container {box.id}. Stop the container before "
        "attempting removal or force remove\n"
    )
