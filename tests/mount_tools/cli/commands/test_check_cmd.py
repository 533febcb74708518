"""`pyunion check`: what it finds, what it repairs, what its exit status says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.cli import Cli


@pytest.fixture
def layer(cli: Cli, tmp_path: Path) -> Path:
    """The tree of the one layer of busy:1."""
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "rootfs/motd").write_text("hello\n")
    cli.ok("import", str(tmp_path / "rootfs"), "busy:1")
    return Path(cli.ok("layers", "--format", "{{.Path}}").strip()) / "diff"


@pytest.mark.usefixtures("layer")
def test_a_store_in_order(cli: Cli) -> None:
    assert cli.ok("check") == "1 image, 1 layer, 0 containers: no findings\n"
    assert cli.ok("check", "-q") == ""
    assert cli.json("check") == []


def test_damage_is_told_and_fails(cli: Cli, layer: Path) -> None:
    (layer / "motd").write_text("Hello\n")
    result = cli("check")
    assert result.status == 1
    assert "motd" in result.out
    assert result.out.endswith(
        "1 image, 1 layer, 0 containers: 1 finding, 1 of them damage\n"
        "Run `pyunion check --repair` to repair what can be repaired\n"
    )
    assert cli("check", "-q") == (1, "", "")


def test_repair_sets_aside_what_it_cannot_make_anew(cli: Cli, layer: Path) -> None:
    (layer / "motd").write_text("Hello\n")
    result = cli("check", "--repair")
    # The image could be used before, and cannot be now.
    assert result.status == 1
    assert "load it again" in result.out and "2 findings, 2 of them damage" in result.out
    assert "quarantine" in result.out
    assert not layer.exists()
    assert [path.read_text() for path in cli.root.rglob("motd")] == ["Hello\n"]


def test_a_repair_that_does_nothing_is_not_advised(cli: Cli, layer: Path) -> None:
    (layer / "motd").write_text("Hello\n")
    assert cli("check", "--repair").status == 1
    result = cli("check")
    assert result.status == 1
    assert "load it again" in result.out
    assert "--repair" not in result.out


def test_leftovers_are_no_damage(cli: Cli, layer: Path) -> None:
    (cli.root / "layers" / ("0" * 64)).mkdir()
    result = cli("check")
    assert result.status == 0
    assert "1 finding, none of them damage" in result.out
