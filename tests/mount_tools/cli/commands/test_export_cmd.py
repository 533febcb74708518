"""`pyunion export`: what a container shows, as a tar."""

from __future__ import annotations

import tarfile
from pathlib import Path

from layerstore import Image
from tests.helpers.cli import Cli


def test_layers_and_upper_are_one_tree(cli: Cli, child: Image, tmp_path: Path) -> None:
    with cli.store() as store:
        box = store.containers.create(child, name="box")
        (box.upper / "mine").write_bytes(b"1")
    target = tmp_path / "a.tar"
    assert cli.ok("export", "-o", str(target), "box") == ""
    with tarfile.open(target) as tar:
        assert {"bin/sh", "etc/motd", "etc/new", "mine"} <= set(tar.getnames())
        motd = tar.extractfile("etc/motd")
        assert motd is not None
        assert motd.read() == b"changed\n"
    cli.ok("import", str(target), "flat:1")
    assert cli.ok("diff", "box", "flat:1") == ""


def test_refusals(cli: Cli, base: Image, tmp_path: Path) -> None:
    assert cli.fails("export", "nope") == "Error: No such container: nope\n"
    with cli.store() as store:
        store.containers.create(base, name="box")
    assert cli.fails("export", "box", "-o", f"{tmp_path}/no/a") == (
        f'failed to export container: invalid output path: directory "{tmp_path}/no" does not '
        "exist\n"
    )
