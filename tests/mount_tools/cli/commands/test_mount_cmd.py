"""pyunion mount and umount: the options of the command reach the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore import Image
from tests.helpers.cli import Cli
from tests.helpers.mounts import mount_type, require_fuse, require_root, run


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {"nosuid", "nodev"}),
        (["--suid"], {"nodev"}),
        (["--dev", "--suid"], set()),
        (["-o", "suid,noexec"], {"nodev", "noexec"}),
        (["-o", "suid", "-o", "nosuid"], {"nosuid", "nodev"}),
    ],
)
def test_flags(cli: Cli, base: Image, tmp_path: Path, flags: list[str], expected: set[str]) -> None:
    require_root()
    require_fuse()
    point = tmp_path / "point"
    point.mkdir()
    cli.ok("create", "--name", "box", "busy:1")
    cli.ok("mount", *flags, "box", str(point))
    try:
        shown = run("findmnt", "-no", "VFS-OPTIONS", point).stdout.decode().strip().split(",")
    finally:
        cli.ok("umount", "box")
    assert {"nosuid", "nodev", "noexec"} & set(shown) == expected
    assert mount_type(point) is None


def test_a_mount_point_that_is_not_utf_8(cli: Cli, base: Image, tmp_path: Path) -> None:
    require_root()
    require_fuse()
    point = tmp_path / os.fsdecode(b"p\xff")
    point.mkdir()
    cli.ok("create", "--name", "box", "busy:1")
    assert "No such container" in cli.fails("umount", point.name)
    for name in ("box", str(point)):
        cli.ok("mount", "box", str(point))
        try:
            assert mount_type(point) == "fuse.pyunion"
        finally:
            cli.ok("umount", name)


def test_umount_takes_the_mount_point(
    cli: Cli, base: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_root()
    require_fuse()
    monkeypatch.chdir(tmp_path)
    Path("point").mkdir()
    Path("link").symlink_to(".")
    cli.ok("create", "--name", "box", "busy:1")
    for name in ("point", "./point/", "link/point", f"{tmp_path}/point"):
        cli.ok("mount", "box", "point")
        try:
            assert cli.ok("umount", name) == f"{name}\n"
        finally:
            if mount_type(tmp_path / "point"):
                cli.ok("umount", "box")
    assert cli.fails("umount", "./point") == (
        "Error: no container is mounted on ./point: umount(8) unmounts what else may be there\n"
    )


def test_what_is_no_container(cli: Cli, base: Image, tmp_path: Path) -> None:
    assert cli.fails("mount", "nope", str(tmp_path)) == "Error: No such container: nope\n"
    for name in ("busy:1", base.id.short):
        assert cli.fails("mount", name, str(tmp_path)) == (
            f"Error: No such container: {name}, but an image: `mount -t pyunion {name} DIRECTORY` "
            "mounts that\n"
        )


def test_an_option_that_is_not_known(cli: Cli, base: Image, tmp_path: Path) -> None:
    cli.ok("create", "--name", "box", "busy:1")
    said = cli.fails("mount", "-o", "nonsense", "box", str(tmp_path))
    assert "unknown option 'nonsense'" in said
    assert mount_type(tmp_path) is None


def test_commands_that_read_a_mounted_container_warn_of_nothing(
    cli: Cli, base: Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They stack its upper over its image, and know that the mount may change it meanwhile."""
    require_root()
    require_fuse()
    point = tmp_path / "point"
    point.mkdir()
    cli.ok("create", "--name", "box", "busy:1")
    cli.ok("mount", "box", str(point))
    try:
        (point / "new").write_bytes(b"text")
        assert cli.ok("diff", "box") == "A /new\n"
        assert cli.ok("diff", "busy:1", "box") == "A /new\n"
        assert cli.ok("which", "/new", "box", "--format", "{{.Type}}") == "file\n"
        cli.ok("export", "-o", str(tmp_path / "tar"), "box")
        assert cli.ok("restore", "box", "/new") == "/new\n"
    finally:
        cli.ok("umount", "box")
    assert caplog.text == ""
