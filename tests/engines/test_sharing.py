"""One copy of a layer on disk for pyunion and the engines."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.engines.conftest import new_store, only_if_asked, require_engines
from tests.engines.operations import finished, image_tree, look_at
from tests.engines.store import Store, fill
from tests.helpers.cli import Cli
from tests.helpers.mounts import run
from tests.helpers.trees import Tree, assert_same


def _blocks(*trees: Path) -> int:
    """Return the KiB on disk of `trees`, each file once."""
    done = run("du", "-sckx", *trees)
    return int(done.stdout.split()[-2])


@pytest.mark.parametrize("on_pyunion", [False, True], ids=["native", "pyunion"])
def test_images_that_pyunion_offers(on_pyunion: bool, tmp_path: Path) -> None:
    require_engines("buildah", "podman")
    cli = Cli(tmp_path / "store")
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    fill(rootfs)
    (rootfs / "big").write_bytes(bytes(range(256)) * (1 << 14))
    cli.ok("import", "-q", str(rootfs), "localhost/shared:1")
    offered = tmp_path / "offered"
    before = _blocks(tmp_path / "store")
    cli.ok("offer", str(offered))
    base = tmp_path / "engine"
    base.mkdir()
    store = Store(base, on_pyunion=on_pyunion, additional=(offered,))
    try:
        assert "localhost/shared" in store.podman("images", "--format", "{{.Repository}}")
        container = store.buildah("from", "localhost/shared:1")
        with store.mounted(container) as root:
            assert_same(look_at(rootfs), look_at(root))
        store.buildah("run", container, "sh", "-c", "cat /big > /dev/null; echo 1 > /data/new")
        again = store.commit(container, "upon")
        with store.mounted(again) as root:
            assert (root / "data/new").read_text() == "1\n"
            assert (root / "big").stat().st_size == 1 << 22
        store.buildah("rm", again)
        context = base / "context"
        context.mkdir()
        (context / "Containerfile").write_text("FROM localhost/upon\nRUN rm /data/new\n")
        store.buildah("bud", "-q", "--layers", "-t", "last", context)
        saved_and_pushed(store, base)
        cli.ok("load", "-q", "-i", f"containers-storage:[{base}/root]last")
        cli.ok("save", "-o", str(tmp_path / "last.tar"), "localhost/last")
        (tmp_path / "last.tar").unlink()
        cli.ok("create", "--name", "box", "localhost/last")
        assert cli.ok("diff", "box") == ""
        assert cli("cp", "box:/data/new", str(tmp_path)).status == 1
        cli.ok("cp", "box:/big", str(tmp_path))
        assert (tmp_path / "big").stat().st_size == 1 << 22
        both = _blocks(tmp_path / "store", offered, base)
    finally:
        store.close()
    assert both - before < 1024, "the 4 MiB are there once"
    subprocess.run(["rm", "-r", base], check=True)


def saved_and_pushed(store: Store, base: Path) -> None:
    """Let the engine write an offered image and what is built upon it; another store reads it."""
    for image in ("shared:1", "last"):
        wanted = _without_mode_of_root(finished(store, store.buildah("from", image)))
        store.podman("save", "-q", "--format", "oci-archive", "-o", base / "oci", image)
        store.podman("save", "-q", "--format", "docker-archive", "-o", base / "docker", image)
        store.buildah("push", "-q", image, f"dir:{base}/dir")
        with new_store(on_pyunion=False) as other:
            for source in ("oci-archive:{}/oci", "docker-archive:{}/docker", "dir:{}/dir"):
                read = other.buildah("pull", "-q", source.format(base))
                assert_same(wanted, _without_mode_of_root(image_tree(other, read)))
                other.buildah("rmi", read)
        (base / "oci").unlink()
        (base / "docker").unlink()
        shutil.rmtree(base / "dir")


def _without_mode_of_root(tree: Tree) -> Tree:
    """Return `tree` without the mode that podman 4.3 gives the root of what it pulls."""
    return {**tree, b"": tree[b""].with_mode(stat.S_IFDIR)}


@pytest.mark.parametrize("name", ["native", pytest.param("store", marks=only_if_asked)])
def test_images_that_an_engine_has(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Their trees stay in the engine's store, and what is built upon them does not go there."""
    native: Store = request.getfixturevalue(name)
    container = native.buildah("from", "base")
    with native.mounted(container) as root:
        (root / "big").write_bytes(bytes(range(256)) * (1 << 14))
        (root / "data/removed").unlink()
    native.buildah("commit", "-q", "--rm", container, "to-share")
    cli = Cli(tmp_path / "store")
    source = f"containers-storage:[{native.base}/root]to-share"
    before = _blocks(native.base / "root")
    assert "localhost/to-share" in cli.ok("load", "-q", "-i", source)
    both = _blocks(native.base / "root", tmp_path / "store")
    assert both - before < 1024, "the 4 MiB are there once"
    point = tmp_path / "point"
    point.mkdir()
    point.chmod(0o755)
    cli.ok("create", "--name", "box", source)
    cli.ok("mount", "box", str(point))
    try:
        with native.mounted(native.buildah("from", "--name", "same", "to-share")) as root:
            wanted = look_at(root)
        assert_same(wanted, look_at(point))
        (point / "data/new").write_text("1")
    finally:
        cli.ok("umount", "box")
    native.buildah("rm", "same")
    cli.ok("commit", "box", "upon")
    cli.ok("save", "-o", str(tmp_path / "upon.tar"), "upon")
    context = tmp_path / "context"
    context.mkdir()
    (context / "Containerfile").write_text("FROM localhost/to-share\nRUN ls -a /data > /seen\n")
    cli.ok("build", "-q", "-t", "built", str(context))
    cli.ok("create", "--name", "last", "built")
    cli.ok("cp", "last:/seen", str(tmp_path / "seen"))
    assert set((tmp_path / "seen").read_text().split()) - {".", ".."} == {
        os.fsdecode(path.split(b"/")[1]) for path in wanted if path.startswith(b"data/")
    }
