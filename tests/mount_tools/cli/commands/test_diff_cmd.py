"""`pyunion diff`, of a container and of two images."""

from __future__ import annotations

import os
import stat

import pytest

from layerstore import Image
from tests.helpers.cli import Cli

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes whiteouts as device nodes")


def test_a_container(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        box = store.containers.create(base, name="box")
        upper = box.upper
    assert cli.ok("diff", "box") == ""
    (upper / "a/b").mkdir(parents=True)
    (upper / "etc").mkdir()
    (upper / "etc/new").touch()
    os.mknod(upper / "etc/motd", stat.S_IFCHR, os.makedev(0, 0))
    assert cli.ok("diff", "box") == "A /a\nA /a/b\nC /etc\nD /etc/motd\nA /etc/new\n"
    assert cli.ok("container", "diff", box.short) == cli.ok("diff", "box")
    found = cli.json("diff", "box")
    assert isinstance(found, list)
    assert found[0] == {"kind": "A", "path": "/a"}


@pytest.mark.usefixtures("child")
def test_two_images(cli: Cli) -> None:
    assert cli.ok("diff", "busy:1", "changed:1") == "C /etc\nC /etc/motd\nA /etc/new\n"
    assert cli.ok("diff", "changed:1", "busy:1") == "C /etc\nC /etc/motd\nD /etc/new\n"
    assert cli.ok("diff", "busy:1", "busy:1") == ""


def test_names_that_are_no_text(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        box = store.containers.create(base, name="box")
        upper = box.upper
    (upper / os.fsdecode(b"caf\xe9")).touch()
    assert os.fsencode(cli.ok("diff", "box")) == b"A /caf\xe9\n"


def test_refusals(cli: Cli) -> None:
    assert cli.fails("diff", "nope") == "Error: No such container: nope\n"
    assert cli.fails("diff", "nope", "x") == "Error: No such object: nope\n"
    assert "requires at least 1 and at most 2 arguments" in cli.fails("diff")
