"""commit --prune-unchanged of a mounted container: nobody who uses it notices."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerstore import Container
from layerstore.db.processes import ProcessId
from mount_tools.container.running import wait_for_end
from tests.helpers.cli import Cli
from tests.helpers.drivers import OsDriver
from tests.helpers.images import add_image
from tests.helpers.mounts import helper_environment, require_fuse, require_root, run
from tests.helpers.trees import assert_same, snapshot
from tests.layerstore.operations.test_commit_killed import pyunion

LARGE = b"0123456789abcdef" * 4096
BASE = {"d/large": LARGE, "d/e/small": b"small", "d/changed": b"1", "top": b"top"}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    require_root()
    require_fuse()
    cli = Cli(tmp_path / "store")
    with cli.store() as store:
        image = add_image(store, BASE, names=["base:1"])
        store.containers.create(image, name="box", config={"Cmd": ["sh"]})
    return cli


@contextmanager
def mounted(cli: Cli, point: Path) -> Iterator[Container]:
    point.mkdir(exist_ok=True)
    run(*pyunion(cli.root, "mount", "box", str(point)), env=helper_environment())
    with cli.store() as store:
        box = store.containers.resolve("box")
    try:
        yield box
    finally:
        run("umount", "-l", point, check=False)
        assert wait_for_end(ProcessId(box.pid or 0, box.pid_start or 0), 60)


def copy_up(path: Path) -> None:
    """Give `path` its copy in the upper, which differs in nothing."""
    mode = path.stat().st_mode
    path.chmod(mode ^ 0o1)
    path.chmod(mode)


def layers_of(cli: Cli, image: str) -> list[set[str]]:
    """Return what the layers of `image` hold, the topmost first."""
    with cli.store() as store:
        return [
            {str(path.relative_to(layer.diff)) for path in layer.diff.rglob("*")}
            for layer in store.layers.chain(store.images.resolve(image).top)
        ]


def test_the_image_lacks_them_and_the_container_goes_on(cli: Cli, tmp_path: Path) -> None:
    point = tmp_path / "point"
    base = layers_of(cli, "base:1")
    with mounted(cli, point):
        for name in ("d/large", "d/e/small", "top"):
            copy_up(point / name)
        (point / "d/changed").write_text("2")
        (point / "new").write_text("new")
        with (point / "d/large").open("rb") as large, (point / "log").open("w") as log:
            view = mmap.mmap(large.fileno(), 0, prot=mmap.PROT_READ)
            log.write("before")
            log.flush()
            before = snapshot(OsDriver(point))
            cli.ok("commit", "-q", "--prune-unchanged", "box", "made:1")
            assert layers_of(cli, "made:1") == [{"d", "d/changed", "new", "log"}, *base]
            assert_same(before, snapshot(OsDriver(point)), "a commit")
            assert view[:] == large.read() == LARGE
            (point / "d/large").write_bytes(b"other")
            (point / "top").unlink()
            log.write(" and after")
            view.close()
        assert (point / "d/large").read_bytes() == b"other"
        cli.ok("commit", "-q", "--prune-unchanged", "box", "made:2")
        own = {"d", "d/large", "top", "log"}
        assert layers_of(cli, "made:2") == [own, {"d", "d/changed", "new", "log"}, *base]
        after = snapshot(OsDriver(point))
        assert cli.ok("check", "-q") == ""
    with mounted(cli, point):
        again = snapshot(OsDriver(point))
        assert_same(after, again, "a remount")
        assert [thing.ino for thing in after.values()] == [thing.ino for thing in again.values()]
    # At rest the copies are dropped where they lie, and what is left is the same.
    cli.ok("commit", "-q", "--prune-unchanged", "box", "made:3")
    with cli.store() as store:
        tops = {store.images.resolve(f"made:{number}").top for number in (2, 3)}
    assert len(tops) == 1
    assert cli.ok("check", "-q") == ""


def test_nothing_but_copies_is_an_empty_layer(cli: Cli, tmp_path: Path) -> None:
    with mounted(cli, tmp_path / "point"):
        copy_up(tmp_path / "point/d/e/small")
        cli.ok("commit", "--prune-unchanged", "box", "made:1")
    assert layers_of(cli, "made:1") == layers_of(cli, "base:1")
    assert cli.ok("history", "-q", "made:1").count("\n") == 2
