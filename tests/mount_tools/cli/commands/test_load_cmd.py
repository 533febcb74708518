"""`pyunion load`: what it brings in, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.cli import Cli
from tests.helpers.terminals import Terminal
from tests.layerstore.archives import file, whole
from tests.layerstore.image_archives import BASE, layout, many_platforms, tar_of

PYUNION = (sys.executable, "-m", "mount_tools.pyunion")


@pytest.fixture
def archive(cli: Cli, tmp_path: Path) -> Path:
    """An archive of busy:1 and busy:2, which are of one image, and of one without a name."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "motd").write_text(name)
    image = cli.ok("import", str(tmp_path / "one"), "busy:1").strip()
    cli.ok("tag", image, "busy:2")
    lone = cli.ok("import", str(tmp_path / "two")).strip()
    target = tmp_path / "a.tar"
    cli.ok("save", "-o", str(target), "busy", lone)
    return target


def test_names_and_ids_come_back(cli: Cli, archive: Path, tmp_path: Path) -> None:
    other = Cli(tmp_path / "other")
    lone = cli.ok("images", "-q", "--no-trunc", "-f", "dangling=true")
    said = f"Loaded image: busy:1\nLoaded image: busy:2\nLoaded image ID: {lone}"
    assert other.ok("load", "-i", str(archive)) == said
    assert other.ok("load", given=archive.read_bytes()) == said
    assert other.ok("images", "-q") == cli.ok("images", "-q")


def test_a_name_that_moves_is_told(cli: Cli, archive: Path, tmp_path: Path) -> None:
    other = Cli(tmp_path / "other")
    before = other.ok("import", str(tmp_path / "two"), "busy:1").strip()
    assert other.ok("image", "load", "-qi", str(archive)).startswith(
        f"The image busy:1 already exists, renaming the old one with ID {before} to empty string\n"
        "Loaded image: busy:1\n"
    )


def test_refusals(cli: Cli, tmp_path: Path) -> None:
    assert cli.fails("load", "-i", f"{tmp_path}/nope") == (
        f"open {tmp_path}/nope: no such file or directory\n"
    )
    junk = tmp_path / "junk"
    junk.write_text("this is no archive")
    assert cli.fails("load", "-i", str(junk)).startswith("Error: ")
    (tmp_path / "dir").mkdir()
    assert cli.fails("load", "-i", str(tmp_path / "dir")).startswith("Error: ")
    assert cli("load", given="").status == 1
    assert cli.fails("load", "x").startswith('"pyunion load" accepts no arguments.\n')
    assert cli.ok("images", "-aq") == ""


def test_only_the_image_for_a_platform(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "a.tar"
    target.write_bytes(tar_of(many_platforms("amd64", "s390x")))
    said = cli.ok("load", "-i", str(target), "--platform", "linux/s390x")
    assert said.strip() == "Loaded image: box:1"
    assert cli.ok("inspect", "-f", "{{.Architecture}}", "box:1").strip() == "s390x"
    assert cli.fails("load", "-i", str(target), "--platform=riscv64") == (
        "Error: the archive has no image for linux/riscv64\n"
    )
    assert "cannot parse platform specifier" in cli.fails(
        "load", "-i", str(target), "--platform=a/b/c/d"
    )


def test_a_name_that_is_only_a_tag_is_of_the_file(cli: Cli, tmp_path: Path) -> None:
    ref = {"org.opencontainers.image.ref.name": "12"}
    (tmp_path / "debian.tar").write_bytes(tar_of(layout(BASE, ref=ref)))
    said = cli.ok("load", "-i", str(tmp_path / "debian.tar"))
    assert said.strip() == "Loaded image: debian:12"


def test_a_terminal_is_told_nothing_by_an_archive(cli: Cli, tmp_path: Path) -> None:
    said = json.dumps([{"Config": "\x1b[2Jc", "Layers": []}]).encode()
    (tmp_path / "a.tar").write_bytes(whole(file(b"manifest.json", said)))
    assert r"\x1b[2Jc" in cli.fails("load", "-i", str(tmp_path / "a.tar"))
    words = [*PYUNION, "--root", str(cli.root), "load", "-i", str(tmp_path / "a.tar")]
    terminal = Terminal(24, 200)
    subprocess.run(words, stderr=terminal.program, check=False)
    assert b"\x1b" not in terminal.await_text(rb"\x1b[2Jc")
    terminal.close()
