"""`pyunion import`: a root filesystem becomes an image."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.helpers.cli import Cli


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    root = tmp_path / "rootfs"
    (root / "etc").mkdir(parents=True)
    (root / "etc/motd").write_text("hello\n")
    return root


def test_a_directory_a_tar_and_a_stream(cli: Cli, rootfs: Path, tmp_path: Path) -> None:
    archive = tmp_path / "rootfs.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(rootfs, ".")
    for name, path, given in (
        ("dir:1", str(rootfs), b""),
        ("tar:1", str(archive), b""),
        ("stdin:1", "-", archive.read_bytes()),
    ):
        printed = cli.ok("import", path, name, given=given)
        assert printed == cli.ok("images", "-q", "--no-trunc", name)
        assert cli.ok("which", "/etc/motd", name, "--format", "{{.Size}}") == "6B\n"
        assert cli.ok("history", name, "--format", "{{.Comment}}") == "Imported from -\n"
    # The same tar is the same layer, whatever way it came.
    assert len(cli.ok("layers", "-q").split()) == 2


def test_without_a_name_it_dangles(cli: Cli, rootfs: Path) -> None:
    cli.ok("image", "import", "-m", "a message", str(rootfs))
    assert cli.ok("images", "--format", "{{.Repository}}:{{.Tag}}") == "<none>:<none>\n"
    (line,) = cli.ok("images", "-q").split()
    assert cli.ok("history", line, "--format", "{{.Comment}}") == "a message\n"


def test_instructions_apply(cli: Cli, rootfs: Path) -> None:
    cli.ok("import", "-c", 'CMD ["/bin/sh"]', "--change", "ENV A=b", str(rootfs), "x:1")
    template = "{{.Config.Cmd}} {{.Config.Env}}"
    assert cli.ok("inspect", "-f", template, "x:1") == "[/bin/sh] [A=b]\n"
    assert cli.fails("import", "-c", "RUN x", str(rootfs)) == (
        "Error: run is not a valid change command\n"
    )


def test_an_image_for_another_platform(cli: Cli, rootfs: Path) -> None:
    cli.ok("import", "--platform", "linux/arm64", str(rootfs), "busy:arm")
    shown = cli.ok("inspect", "-f", "{{.Os}}/{{.Architecture}}/{{.Variant}}", "busy:arm")
    assert shown == "linux/arm64/v8\n"
    complaint = cli.fails("import", "--platform", "nonsense", str(rootfs))
    assert '"nonsense": unknown operating system or architecture' in complaint


def test_refusals(cli: Cli, rootfs: Path, tmp_path: Path) -> None:
    assert cli.fails("import", f"{tmp_path}/nope") == (
        f"open {tmp_path}/nope: no such file or directory\n"
    )
    assert "must be lowercase" in cli.fails("import", str(rootfs), "Bad")
    assert "curl" in cli.fails("import", "http://host.example/x.tar")
    junk = tmp_path / "junk"
    junk.write_text("this is no archive\n")
    assert cli.fails("import", str(junk), "x:1").startswith("Error: ")
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        tar.add(rootfs, ".")
    junk.write_bytes(whole.getvalue()[:1024])
    assert cli.fails("import", str(junk), "x:1").startswith("Error: ")
    assert cli.ok("images", "-aq") == ""
