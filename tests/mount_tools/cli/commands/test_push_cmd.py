"""`pyunion push`: docker's lines, and which tags go."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layerstore import Image
from tests.helpers.cli import Cli
from tests.helpers.registry_server import RegistryServer


@pytest.fixture
def name(cli: Cli, hub: RegistryServer, tmp_path: Path) -> str:
    """An image of one layer, by a name in the registry."""
    made = f"{hub.host}/{hub.name()}"
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text(made)
    cli.ok("import", str(tree), made)
    return made


def test_the_lines_are_dockers(cli: Cli, name: str) -> None:
    said = cli.ok("push", name).splitlines()
    assert said[:2] == ["Using default tag: latest", f"The push refers to repository [{name}]"]
    short = said[2].partition(":")[0]
    assert said[2:4] == [f"{short}: Preparing", f"{short}: Pushed"]
    assert re.fullmatch(r"latest: digest: sha256:[0-9a-f]{64} size: [0-9]+", said[4])
    assert cli.ok("push", f"{name}:latest").splitlines()[1:] == [
        f"{short}: Preparing",
        f"{short}: Layer already exists",
        said[4],
    ]
    digest = said[4].split()[2]
    assert cli.ok("images", "--digests", "--format", "{{.Digest}}", name) == f"{digest}\n"


def test_another_repository_of_the_registry_gives_its_layers(
    cli: Cli, hub: RegistryServer, name: str
) -> None:
    cli.ok("push", "-q", name)
    second = f"{hub.host}/{hub.name()}:x"
    cli.ok("tag", name, second)
    mounted = name.partition("/")[2]
    assert f": Mounted from {mounted}\n" in cli.ok("push", second)


def test_all_tags(cli: Cli, name: str) -> None:
    cli.ok("tag", name, f"{name}:1")
    said = cli.ok("push", "--all-tags", name)
    assert "Using default tag" not in said
    assert re.findall(r"^(\S+): digest", said, re.MULTILINE) == ["1", "latest"]
    assert cli.ok("push", "-aq", name) == f"{name}\n"
    assert cli.ok("push", "-q", f"{name}:1") == f"{name}:1\n"


@pytest.mark.parametrize("kind", ["gzip", "zstd", "zstd:7"])
def test_a_compression_can_be_asked_for(cli: Cli, tmp_path: Path, name: str, kind: str) -> None:
    cli.ok("push", "-q", "--compression", kind, name)
    other = Cli(tmp_path / "other")
    other.ok("pull", "-q", name)
    assert other.ok("images", "-q") == cli.ok("images", "-q")
    assert other.ok("check").endswith("no findings\n")


def test_refusals(cli: Cli, base: Image, name: str) -> None:
    assert cli.fails("push", f"{name}:nope") == (
        f"Error: An image does not exist locally with the tag: {name}\n"
    )
    assert cli.fails("push", "-a", f"{name}:1") == "tag can't be used with --all-tags/-a\n"
    digest = "sha256:" + "0" * 64
    assert cli.fails("push", f"{name}@{digest}") == "cannot push a digest reference\n"
    assert 'unknown compression "xz"' in cli.fails("push", "--compression", "xz", name)
