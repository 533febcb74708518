"""`pyunion which`: the layer that provides a path."""

from __future__ import annotations

import os
import stat

import pytest

from layerstore import Image
from tests.helpers.cli import Cli
from tests.helpers.images import add_image


def test_the_layer_that_shows_and_those_beneath(cli: Cli, child: Image, base: Image) -> None:
    assert child.top is not None
    assert base.top is not None
    assert cli.ok(
        "which", "/etc/motd", "changed:1", "--format", "{{.ID}} {{.Size}} {{.Images}}"
    ) == (f"{child.top.short} 8B changed:1\n{base.top.short} 6B busy:1\n")
    assert cli.ok("which", "-q", "etc/new", "changed:1") == f"{child.top.short}\n"
    assert cli.ok("which", "-q", "/bin/sh", child.id.short) == f"{base.top.short}\n"
    assert cli.ok("which", "/", "changed:1", "--format", "{{.Type}}") == "directory\ndirectory\n"


def test_what_a_container_changed_itself(cli: Cli, base: Image) -> None:
    assert base.top is not None
    with cli.store() as store:
        box = store.containers.create(base, name="box")
        (box.upper / "etc").mkdir()
        (box.upper / "etc/motd").write_bytes(b"mine\n")
    assert cli.ok("which", "-q", "/etc/motd", "box") == f"(upper)\n{base.top.short}\n"
    found = cli.json("which", "/etc/motd", "box")
    assert isinstance(found, list)
    assert isinstance(found[0], dict)
    assert (found[0]["layer"], found[0]["size"], found[0]["type"]) == (None, 5, "file")


def test_names_hold_anything(cli: Cli, base: Image) -> None:
    names = ("a\nb", "a\\012b", "a\\134\n", os.fsdecode(b"\xff"))
    with cli.store() as store:
        upper = store.containers.create(base, name="box").upper
        for name in names:
            (upper / name).write_bytes(b"1")
    for name in names:
        assert cli.ok("which", "-q", f"/{name}", "box") == "(upper)\n"
    for name in ("/" + "x" * 300, "x/" * 3000):
        assert "no layer has this path" in cli.fails("which", name, "box")


def test_what_a_container_committed_was_made_by_its_command(cli: Cli, base: Image) -> None:
    cli.ok("create", "--name", "box", "busy:1", "sh", "-c", "echo hi")
    with cli.store() as store:
        (store.containers.resolve("box").upper / "new").write_bytes(b"1")
    cli.ok("commit", "box", "new:1")
    template = "{{.Images}}|{{.CreatedBy}}"
    assert cli.ok("which", "/new", "box", "--format", template) == "new:1|sh -c echo hi\n"


def test_a_path_that_is_nowhere(cli: Cli, base: Image) -> None:
    assert cli.fails("which", "/nope", "busy:1") == (
        "Error: no layer has this path in busy:1: /nope\n"
    )
    assert "no layer has this path" in cli.fails("which", "/etc/motd/x", "busy:1")
    assert cli.fails("which", "/x", "nope") == "Error: No such object: nope\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device node")
def test_a_path_that_a_layer_deleted(cli: Cli, base: Image) -> None:
    assert base.top is not None
    with cli.store() as store:
        box = store.containers.create(base, name="box")
        (box.upper / "etc").mkdir()
        whiteout = box.upper / "etc/motd"
        os.mknod(whiteout, stat.S_IFCHR, os.makedev(0, 0))
    assert cli.fails("which", "/etc/motd", "box") == (
        "Error: the container deleted this path in box: /etc/motd\n"
    )


def test_an_image_without_layers_has_no_paths(cli: Cli) -> None:
    with cli.store() as store:
        add_image(store, names=["void:1"])
    assert "no layer has this path" in cli.fails("which", "/", "void:1")


def test_links_on_the_way_are_followed_within_the_tree(cli: Cli, base: Image) -> None:
    """As /bin/ls is found where /bin leads to usr/bin; the last name is taken as it is."""
    with cli.store() as store:
        upper = store.containers.create(base, name="box").upper
        (upper / "usr/bin").mkdir(parents=True)
        (upper / "usr/bin/new").write_bytes(b"1")
        for name, target in (("b", "usr/bin"), ("abs", "/../b"), ("usr/up", "../b"), ("o", "o")):
            (upper / name).symlink_to(target)
    for path in ("/b/new", "/abs/new", "usr/up/new", "/usr/bin/../../b/new"):
        assert cli.ok("which", path, "box", "--format", "{{.Type}}") == "file\n", path
    assert cli.ok("which", "/b", "box", "--format", "{{.Type}}") == "symlink\n"
    assert "no layer has this path" in cli.fails("which", "/o/new", "box")
