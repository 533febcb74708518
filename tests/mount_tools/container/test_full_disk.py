"""A disk that fills up in the midst of a command: a sentence, and all or nothing.

Each command is run with less and less of the disk taken.  Where it fails, the
store is as it was and the command does it in the end; where it does not,
all of it is there.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from layerstore.db.processes import ProcessId
from mount_tools.container.running import wait_for_end
from tests.helpers.cli import Cli
from tests.helpers.images import add_image
from tests.helpers.mounts import helper_environment, require_fuse, require_root, run
from tests.helpers.small_disks import fill, small_disk
from tests.layerstore.operations.test_commit_killed import pyunion

KIB = 1 << 10
LEFT = [size * KIB for size in (0, 30, 300, 530, 600, 700, 800, 1000, 1400, 2000, 3200, 6000)]
LARGE = os.urandom(700 * KIB)
FILES = 1500


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """`pyunion` on a store with the image base:1, alone on an ext4 of 48 MiB."""
    require_root()
    with small_disk(tmp_path, "ext4", 48 << 20, 8000) as top:
        cli = Cli(top / "store")
        with cli.store() as store:
            add_image(store, {"etc/motd": b"hello", "d/low": b"low"}, names=["base:1"])
        yield cli


def until_it_fits(cli: Cli, *words: str, also: Callable[[], None] = lambda: None) -> None:
    """Run the command with ever more room until it works; `also` checks what is to hold always."""
    before = cli.ok("images", "-a", "-q", "--no-trunc")
    for failures, left in enumerate(LEFT):
        filler = fill(cli.root.parent, left)
        try:
            result = cli(*words)
            if result.status:
                assert cli.ok("images", "-a", "-q", "--no-trunc") == before
        finally:
            filler.unlink()
        assert cli.ok("check", "-q") == "", left
        also()
        if not result.status:
            assert failures >= 4, "some of these failures were to be in the midst of it"
            return
        assert result.out == ""
        assert result.err.startswith("Error: ")
        assert result.err.count("\n") == 1
        assert "no space left on " in result.err.lower(), result.err
        assert "`pyunion prune` and `pyunion rmi` make room" in result.err
    pytest.fail(f"{words[0]} failed with all the room there is")


def change(folder: Path) -> None:
    """Make a change whose index and tar-split take about as much room as the reserve."""
    for number in range(FILES):
        place = folder / f"d/{number % 7}"
        place.mkdir(parents=True, exist_ok=True)
        (place / os.urandom(100).hex()).write_bytes(b"%d" % number)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def exported(cli: Cli, container: str, to: Path) -> dict[str, bytes]:
    cli.ok("export", "-o", str(to), container)
    with tarfile.open(to) as archive:
        found = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read() for name, file in found.items() if file is not None}


def test_commit_of_a_stopped_container(cli: Cli, tmp_path: Path) -> None:
    cli.ok("create", "--name", "box", "base:1", "sh")
    with cli.store() as store:
        upper = store.containers.resolve("box").upper
    change(upper)
    wanted = {"etc/motd": b"hello", "d/low": b"low"} | contents(upper)
    until_it_fits(cli, "commit", "box", "made:1")
    assert exported(cli, "box", tmp_path / "box.tar") == wanted
    cli.ok("create", "--name", "again", "made:1")
    assert exported(cli, "again", tmp_path / "again.tar") == wanted


def test_commit_of_a_busy_container(cli: Cli, tmp_path: Path) -> None:
    require_fuse()
    point = tmp_path / "point"
    point.mkdir()
    cli.ok("create", "--name", "box", "base:1", "sh")
    with cli.store() as store:
        change(store.containers.resolve("box").upper)
    run(*pyunion(cli.root, "mount", "box", str(point)), env=helper_environment())
    with cli.store() as store:
        box = store.containers.resolve("box")
    try:
        with ExitStack() as stack:
            for name in ("log", "d/low", "new/deep/er/held"):
                (point / name).parent.mkdir(parents=True, exist_ok=True)
            held = [
                stack.enter_context((point / name).open("wb", buffering=0))
                for name in ("log", "d/low", "new/deep/er/held")
            ]
            for file in held:
                file.write(LARGE)

            def go_on() -> None:
                for file in held:
                    file.write(b"more")

            until_it_fits(cli, "commit", "box", "made:1", also=go_on)
            go_on()
            assert cli.ok("check", "-q") == "", "nobody writes into a layer"
        wanted = contents(point)
        assert wanted["d/low"][: len(LARGE)] == LARGE
        assert wanted["d/low"].strip(b"more") == LARGE.strip(b"more")
        cli.ok("create", "--name", "again", "made:1")
        made = exported(cli, "again", tmp_path / "again.tar")
        assert made.keys() == wanted.keys()
        assert all(wanted[name].startswith(made[name]) for name in made)
    finally:
        run("umount", "-l", point, check=False)
        assert wait_for_end(ProcessId(box.pid or 0, box.pid_start or 0), 60)
    assert cli.ok("check", "-q") == ""
    assert exported(cli, "box", tmp_path / "box.tar") == wanted


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """The tar of a root filesystem of a few files, large and small."""
    path = tmp_path / "rootfs.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in {f"f{n}": LARGE for n in range(3)}.items() | {("end", b"end")}:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_import(cli: Cli, rootfs: Path, tmp_path: Path) -> None:
    until_it_fits(cli, "import", str(rootfs), "made:1")
    cli.ok("create", "--name", "again", "made:1")
    assert exported(cli, "again", tmp_path / "again.tar").keys() == {"f0", "f1", "f2", "end"}


def test_load(cli: Cli, rootfs: Path, tmp_path: Path) -> None:
    other = Cli(tmp_path / "other")
    other.ok("import", str(rootfs), "made:1")
    other.ok("create", "--name", "box", "made:1")
    with other.store() as store:
        change(store.containers.resolve("box").upper)
    other.ok("commit", "box", "made:2")
    archive = tmp_path / "images.tar"
    other.ok("save", "-o", str(archive), "made:1", "made:2")
    until_it_fits(cli, "load", "-q", "-i", str(archive))
    assert cli.ok("images", "-q", "--no-trunc", "made:2") == other.ok(
        "images", "-q", "--no-trunc", "made:2"
    )
