"""Images exchanged with the tools people use: what one writes, the other reads.

Each needs its tool; skopeo and umoci are installed by `make test`, podman and
dockerd are used where they are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.archive.load import load
from layerstore.archive.save import OCI_ARCHIVE, OCI_DIRECTORY, save
from layerstore.images.images import Image
from layerstore.layer.pack import pack
from layerstore.oci.digest import Digest
from layerstore.operations.rootfs import import_image
from layerstore.store import Store
from tests.helpers.drivers import OsDriver
from tests.helpers.mounts import DEADLINE, require_root
from tests.helpers.processes import end
from tests.helpers.trees import assert_same, merge_layers, snapshot
from tests.helpers.unions import Content, fill

pytestmark = pytest.mark.usefixtures("as_root")

BASE: Content = {
    "etc": {"motd": "hello", "gone": "x", "kept": "x"},
    "dir": {"a": "1", "b": "2", "sub": {"c": "3"}},
    "was-file": "x",
    "was-dir": {"in": "x"},
}
TOP: Content = {
    "etc": {"motd": "changed", "gone": None, "new": "y"},
    "dir": None,
    "was-file": {"now": "a directory"},
    "was-dir": "now a file",
}


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "other", sync=False) as store:
        yield store


@pytest.fixture
def image(store: Store, tmp_path: Path) -> Image:
    """An image of two layers, the second with every kind of change."""
    base = tmp_path / "base"
    base.mkdir()
    fill(base, BASE)
    os.chown(base / "etc/kept", 5, 6)
    os.link(base / "etc/motd", base / "hard")
    (base / "link").symlink_to("etc/motd")
    os.setxattr(base / "etc/kept", "user.x", b"1")
    below = import_image(store, base)
    with store.leases.lease("work", "test"), store.layers.stage() as staging:
        fill(staging.diff, TOP)
        lowers = [layer.diff for layer in store.layers.chain(below.top)]
        packed = pack(staging.diff, lowers, privileged=True, record=staging.path)
        store.layers.publish(staging, below.top, packed.diff_id, packed.size)
        entry = store.images.config(below).history[0]
        config = store.images.config(below).derive(entry, diff_id=packed.diff_id)
        made = store.images.add(config.data)
        store.images.tag(made, "box:1")
    return store.images.get(made.id)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.json"
    path.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    return path


def archive(store: Store, path: Path, form: str = "docker-archive") -> Path:
    with path.open("wb", buffering=0) as out:
        save(store, ["box:1"], out, form)
    return path


def merged(store: Store, image: Image, path: Path) -> Path:
    merge_layers([layer.diff for layer in store.layers.chain(image.top)], path)
    return path


def same_tree(one: Path, other: Path, *skip: str) -> None:
    assert_same(snapshot(OsDriver(one)), snapshot(OsDriver(other)), skip=["mtime_ns", *skip])


def test_skopeo_reads_what_we_write(
    store: Store, image: Image, policy: Path, tmp_path: Path
) -> None:
    skopeo = tool("skopeo")
    docker = archive(store, tmp_path / "docker.tar")
    oci = archive(store, tmp_path / "oci.tar", OCI_ARCHIVE)
    save(store, ["box:1"], tmp_path / "layout", OCI_DIRECTORY)
    for number, source in enumerate(
        (
            f"docker-archive:{docker}:box:1",
            f"oci-archive:{docker}:docker.io/library/box:1",
            f"oci-archive:{oci}:docker.io/library/box:1",
            f"oci:{tmp_path / 'layout'}:docker.io/library/box:1",
        )
    ):
        target = tmp_path / f"copy{number}"
        run(skopeo, "--policy", policy, "copy", source, f"dir:{target}")
        manifest = json.loads((target / "manifest.json").read_text())
        assert manifest["config"]["digest"] == image.id


def test_we_read_what_skopeo_writes(
    store: Store, other: Store, image: Image, policy: Path, tmp_path: Path
) -> None:
    skopeo = tool("skopeo")
    ours = archive(store, tmp_path / "ours.tar")
    copy = (skopeo, "--policy", policy, "copy")
    docker = tmp_path / "docker.tar"
    run(*copy, f"docker-archive:{ours}:box:1", f"docker-archive:{docker}:box:2")
    (line,) = load(other, docker)
    assert (line.image, str(line.name)) == (image.id, "docker.io/library/box:2")
    for kind in ("gzip", "zstd"):
        layout = tmp_path / kind
        run(
            *copy,
            "--dest-compress",
            f"--dest-compress-format={kind}",
            f"oci-archive:{ours}:docker.io/library/box:1",
            f"oci:{layout}:docker.io/library/{kind}:1",
        )
        load(other, layout)
        with (tmp_path / f"{kind}.tar").open("wb", buffering=0) as out:
            save(other, [f"{kind}:1"], out, OCI_ARCHIVE)
        reference = f"oci-archive:{tmp_path / f'{kind}.tar'}:docker.io/library/{kind}:1"
        before = run(skopeo, "inspect", "--raw", f"oci:{layout}:docker.io/library/{kind}:1")
        assert run(skopeo, "inspect", "--raw", reference) == before, "the manifest keeps its digest"


def test_we_read_a_directory_of_skopeos(
    store: Store, other: Store, image: Image, policy: Path, tmp_path: Path
) -> None:
    skopeo = tool("skopeo")
    ours = archive(store, tmp_path / "ours.tar")
    ways = (("--dest-compress=false",), ("--dest-compress",), ("--format=v2s2",))
    for number, options in enumerate(ways):
        target = tmp_path / f"dir{number}"
        copy = (skopeo, "--policy", policy, "copy")
        run(*copy, *options, f"docker-archive:{ours}:box:1", f"dir:{target}")
        (line,) = load(other, target)
        assert other.images.get(line.image).top == image.top
        assert line.name is None


def test_umoci_unpacks_what_we_write(store: Store, image: Image, tmp_path: Path) -> None:
    umoci = tool("umoci")
    save(store, ["box:1"], tmp_path / "layout", OCI_DIRECTORY)
    reference = f"{tmp_path / 'layout'}:docker.io/library/box:1"
    run(umoci, "unpack", "--image", reference, tmp_path / "bundle")
    same_tree(merged(store, image, tmp_path / "merged"), tmp_path / "bundle/rootfs")


def test_we_read_what_umoci_writes(
    store: Store, other: Store, image: Image, tmp_path: Path
) -> None:
    umoci = tool("umoci")
    save(store, ["box:1"], tmp_path / "layout", OCI_DIRECTORY)
    reference = f"{tmp_path / 'layout'}:docker.io/library/box:1"
    bundle = tmp_path / "bundle"
    run(umoci, "unpack", "--image", reference, bundle)
    rootfs = bundle / "rootfs"
    shutil.rmtree(rootfs / "was-file")
    (rootfs / "was-file").write_text("a file again")
    (rootfs / "etc/motd").unlink()
    (rootfs / "fresh").mkdir()
    (rootfs / "fresh/file").write_text("new")
    run(umoci, "repack", "--image", f"{tmp_path / 'layout'}:new", bundle)
    lines = load(other, tmp_path / "layout")
    made = other.images.get(next(line.image for line in lines if line.image != image.id))
    assert len(other.layers.chain(made.top)) == 3
    same_tree(merged(other, made, tmp_path / "merged"), rootfs)


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a path of less than the 50 bytes that podman allows."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_podman(
    store: Store, other: Store, image: Image, policy: Path, short: Path, tmp_path: Path
) -> None:
    tool("podman")
    options = [f"--{name}={short / name}" for name in ("root", "runroot", "tmpdir")]
    podman = ["podman", *options, "--storage-driver=vfs", "--events-backend=none"]
    ours = archive(store, tmp_path / "ours.tar")
    try:
        run(*podman, "load", f"--signature-policy={policy}", "-i", ours)
        found = json.loads(run(*podman, "images", "--format=json", "--no-trunc"))
        assert [entry["Id"] for entry in found] == [image.id.removeprefix("sha256:")]
        name = found[0]["Names"][0]
        for form in ("docker-archive", "oci-archive"):
            theirs = tmp_path / f"{form}.tar"
            run(*podman, "save", f"--format={form}", "-o", theirs, name)
            (line,) = load(other, theirs)
            loaded = other.images.get(line.image)
            trees = [tmp_path / f"{form}{number}" for number in range(2)]
            same_tree(merged(store, image, trees[0]), merged(other, loaded, trees[1]))
    finally:
        run(*podman, "rmi", "-af", check=False)


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[list[str]]:
    """A dockerd of the test's own, ended with it."""
    require_root()
    dockerd, client = tool("dockerd"), tool("docker")
    base = tmp_path / "docker"
    base.mkdir()
    command: list[str | Path] = [
        dockerd,
        *("--data-root", base / "data", "--exec-root", base / "exec", "--pidfile", base / "pid"),
        *("--iptables=false", "--bridge=none", "-H", f"unix://{base}/sock"),
        "--storage-driver=vfs",
    ]
    with (base / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        docker = [client, "-H", f"unix://{base}/sock"]
        deadline = time.monotonic() + 60
        while subprocess.run([*docker, "version"], capture_output=True).returncode:
            if daemon.poll() is not None or time.monotonic() > deadline:
                pytest.skip(f"dockerd does not run here: {(base / 'log').read_text()[-500:]}")
        yield docker
    finally:
        daemon.terminate()
        try:
            daemon.wait(DEADLINE)
        finally:
            end(daemon)


@pytest.mark.slow
def test_dockerd(
    store: Store, other: Store, image: Image, docker: list[str], tmp_path: Path
) -> None:
    run(*docker, "load", "-i", archive(store, tmp_path / "ours.tar"))
    assert run(*docker, "images", "-q", "--no-trunc").split() == [image.id]
    run(*docker, "save", "-o", tmp_path / "theirs.tar", "box:1")
    (line,) = load(other, tmp_path / "theirs.tar")
    assert line.image == image.id
    same_tree(merged(store, image, tmp_path / "one"), merged(other, image, tmp_path / "two"))
    container = run(*docker, "create", "box:1", "/x").strip()
    run(*docker, "export", "-o", tmp_path / "flat.tar", container)
    flat = import_image(other, tmp_path / "flat.tar", "flat:1")
    (layer,) = other.layers.chain(flat.top)
    shown = snapshot(OsDriver(layer.diff))
    for name in merged(store, image, tmp_path / "three").rglob("*"):
        assert os.fsencode(name.relative_to(tmp_path / "three")) in shown
    child = Digest(run(*docker, "commit", container, "child:1").strip())
    run(*docker, "save", "-o", tmp_path / "both.tar", "child:1", "box:1")
    load(other, tmp_path / "both.tar")
    assert other.images.get(child).parent == image.id
    with (tmp_path / "ours.tar").open("wb") as out:
        save(other, ["child:1", "box:1"], out)
    run(*docker, "rm", container)
    run(*docker, "rmi", "child:1", "box:1")
    run(*docker, "load", "-i", tmp_path / "ours.tar")
    assert run(*docker, "inspect", "-f", "{{.Parent}}", "child:1").strip() == image.id
