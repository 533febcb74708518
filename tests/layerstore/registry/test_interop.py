"""Images exchanged through a registry with docker, podman and skopeo, in both directions.

An image that one pushes is pulled by the other with the same id, and with the same files.
Each needs its tool; dockerd is slow to start, so its test is marked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.images.images import Image
from layerstore.oci.reference import Reference
from layerstore.operations.check import check
from layerstore.registry.client import Client
from layerstore.registry.layers_out import parse_compression
from layerstore.registry.pull import pull_image
from layerstore.registry.push import push_image
from layerstore.store import Store
from tests.helpers.cli import Cli
from tests.helpers.registry_server import RegistryServer
from tests.layerstore.registry.clients import opened
from tests.layerstore.test_real_tools import docker as docker
from tests.layerstore.test_real_tools import image as image
from tests.layerstore.test_real_tools import merged, run, same_tree, tool
from tests.layerstore.test_real_tools import other as other
from tests.layerstore.test_real_tools import policy as policy
from tests.layerstore.test_real_tools import short as short

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with opened(tmp_path) as made:
        yield made


@pytest.fixture
def name(registry_server: RegistryServer) -> Reference:
    return Reference(f"{registry_server.host}/{registry_server.name()}", "1")


@pytest.fixture
def pushed(store: Store, image: Image, client: Client, name: Reference) -> Reference:
    """The name by which the image was pushed."""
    store.images.tag(image, name)
    push_image(store, client.repository(name), name)
    return name


def pulled(store: Store, client: Client, name: Reference) -> Image:
    """Pull an image; the store is sound afterwards."""
    image = store.images.get(pull_image(store, client.repository(name), name).image)
    assert check(store) == []
    return image


def test_what_is_pushed_is_pulled_with_the_same_files(
    store: Store, other: Store, image: Image, client: Client, pushed: Reference, tmp_path: Path
) -> None:
    again = pulled(other, client, pushed)
    assert (again.id, again.top) == (image.id, image.top)
    same_tree(merged(store, image, tmp_path / "one"), merged(other, again, tmp_path / "two"))


def comes_back(
    other: Store, client: Client, name: Reference, image: Image, store: Store, scratch: Path
) -> None:
    """Check that what another program pushed as `name` is the `image` of `store`."""
    again = pulled(other, client, name)
    assert again.top == image.top
    same_tree(merged(store, image, scratch / "ours"), merged(other, again, scratch / "theirs"))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_skopeo(
    other: Store,
    store: Store,
    image: Image,
    client: Client,
    pushed: Reference,
    policy: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    skopeo = (tool("skopeo"), "--policy", policy)
    packing = parse_compression(kind)
    push_image(store, client.repository(pushed), pushed, compression=packing)
    raw = run(*skopeo, "inspect", "--raw", "--tls-verify=false", f"docker://{pushed}")
    assert json.loads(raw)["config"]["digest"] == image.id
    layout = f"oci:{tmp_path / 'layout'}:1"
    run(*skopeo, "copy", "--src-tls-verify=false", f"docker://{pushed}", layout)
    back = pushed._replace(tag=f"back-{kind}")
    run(*skopeo, "copy", "--dest-tls-verify=false", layout, f"docker://{back}")
    comes_back(other, client, back, image, store, tmp_path)


def test_podman(
    store: Store,
    other: Store,
    image: Image,
    client: Client,
    pushed: Reference,
    policy: Path,
    short: Path,
    tmp_path: Path,
) -> None:
    tool("podman")
    options = [f"--{name}={short / name}" for name in ("root", "runroot", "tmpdir")]
    podman = ["podman", *options, "--storage-driver=vfs", "--events-backend=none"]
    insecure = ("--tls-verify=false", "-q")
    try:
        run(*podman, "pull", f"--signature-policy={policy}", *insecure, str(pushed))
        found = json.loads(run(*podman, "images", "--format=json", "--no-trunc"))
        assert [entry["Id"] for entry in found] == [image.id.removeprefix("sha256:")]
        mounted = Path(run(*podman, "image", "mount", str(pushed)).strip())
        same_tree(merged(store, image, tmp_path / "one"), mounted)
        run(*podman, "image", "umount", str(pushed))
        back = pushed._replace(tag="back")
        run(*podman, "push", *insecure, str(pushed), str(back))
        comes_back(other, client, back, image, store, tmp_path)
    finally:
        run(*podman, "rmi", "-af", check=False)


@pytest.mark.slow
def test_buildah(
    store: Store,
    other: Store,
    image: Image,
    client: Client,
    pushed: Reference,
    policy: Path,
    short: Path,
    tmp_path: Path,
) -> None:
    options = [f"--{name}={short / name}" for name in ("root", "runroot")]
    buildah = [tool("buildah"), *options, "--storage-driver=vfs"]
    insecure = (f"--signature-policy={policy}", "--tls-verify=false", "-q")
    container = run(*buildah, "from", *insecure, str(pushed)).strip()
    try:
        said = run(*buildah, "inspect", "--format={{.FromImageID}}", container).strip()
        assert said == image.id.removeprefix("sha256:")
        mounted = Path(run(*buildah, "mount", container).strip())
        same_tree(merged(store, image, tmp_path / "one"), mounted)
        run(*buildah, "umount", container)
        back = pushed._replace(tag="back")
        run(*buildah, "push", *insecure, said, f"docker://{back}")
        comes_back(other, client, back, image, store, tmp_path)
    finally:
        run(*buildah, "rm", "-a", check=False)
        run(*buildah, "rmi", "-af", check=False)


# What docker adds to the root of every container.
_DOCKERS = (".dockerenv", "dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf")


@pytest.mark.slow
def test_dockerd(
    store: Store,
    other: Store,
    image: Image,
    client: Client,
    pushed: Reference,
    docker: list[str],
    tmp_path: Path,
) -> None:
    said = run(*docker, "pull", str(pushed)).splitlines()
    assert run(*docker, "images", "-q", "--no-trunc").split() == [image.id]
    ours = Cli(tmp_path / "cli").ok("pull", str(pushed)).splitlines()
    # The lines about layers come in the order of the events, and docker drops events that
    # come at the same time.
    told = ("Pulling", "Download complete", "Pull complete", "Digest", "Status")
    assert sorted(line for line in ours if any(word in line for word in told)) == sorted(
        line for line in said if any(word in line for word in told)
    )
    assert ours[-3:] == said[-3:] and ours[0] == said[0]
    container = run(*docker, "create", str(pushed), "/x").strip()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    run(*docker, "export", "-o", tmp_path / "export.tar", container)
    excluded = [f"--exclude={name}" for name in (*_DOCKERS, "etc/mtab")]
    run("tar", "-xpf", tmp_path / "export.tar", "-C", theirs, *excluded)
    same_tree(merged(store, image, tmp_path / "one"), theirs, "xattrs")  # it drops user.*
    child = run(*docker, "commit", container, str(pushed._replace(tag="child"))).strip()
    lines = run(*docker, "push", str(pushed._replace(tag="child"))).splitlines()
    again = pulled(other, client, pushed._replace(tag="child"))
    assert again.id == child
    (digest,) = (reference.digest for reference in again.repo_digests)
    assert f"digest: {digest} size:" in lines[-1]
    # What docker pushed is pushed on as it came.
    on = Reference(f"{pushed.repository}-on", "1")
    other.images.tag(again, on)
    assert push_image(other, client.repository(on), on).digest == digest
    run(*docker, "rm", container)
