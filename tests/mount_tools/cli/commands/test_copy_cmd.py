"""`pyunion copy`: places, and the same image wherever it goes."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.cli.commands.copy_cmd import ImagePlace, parse_place
from tests.helpers.cli import Cli
from tests.helpers.registry_server import RegistryServer
from tests.layerstore.registry.locations import write


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("debian:12", ImagePlace("docker", "", "debian:12")),
        ("docker://host:5000/x:1", ImagePlace("docker", "", "host:5000/x:1")),
        ("docker://debian", ImagePlace("docker", "", "docker.io/library/debian")),
        ("docker-archive:/a.tar:x:1", ImagePlace("docker-archive", "/a.tar", "x:1")),
        ("docker-archive:/a.tar", ImagePlace("docker-archive", "/a.tar", "")),
        ("oci:dir:v1", ImagePlace("oci", "dir", "v1")),
        ("oci-archive:a.tar", ImagePlace("oci-archive", "a.tar", "")),
        ("oci", ImagePlace("docker", "", "oci")),
    ],
)
def test_places(text: str, place: ImagePlace) -> None:
    assert parse_place(text) == place


def test_a_place_needs_a_path() -> None:
    with pytest.raises(StoreError, match="names no file"):
        parse_place("oci::x")


@pytest.mark.parametrize("text", ["docker-daemon:x", "containers-storage:x:1", "dir:/tmp/x"])
def test_a_place_of_skopeos_is_not_taken_for_a_name(text: str) -> None:
    with pytest.raises(StoreError, match=rf'^"{text}" is .* only skopeo has: use '):
        parse_place(text)
    assert parse_place("dir:1") == ImagePlace("docker", "", "dir:1")


def test_an_image_goes_round_and_stays_the_same(
    cli: Cli, hub: RegistryServer, tmp_path: Path
) -> None:
    first = f"{hub.host}/{hub.name()}"
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text(first)
    cli.ok("import", str(tmp_path / "tree"), first)
    digest = cli.ok("push", first).split()[-3]
    places = [
        first,
        f"{hub.host}/{hub.name()}:x",
        f"oci:{tmp_path}/layout:v1",
        f"docker://{hub.host}/{hub.name()}",
        f"oci-archive:{tmp_path}/oci.tar",
        f"docker-archive:{tmp_path}/docker.tar:box:2",
    ]
    for source, target in itertools.pairwise(places):
        said = cli.ok("copy", "--preserve-digests", source, target).splitlines()
        assert said[-1] == f"Digest: {digest}", (source, target, said)
    other = Cli(tmp_path / "other")
    assert other.ok("load", "-i", f"{tmp_path}/docker.tar") == "Loaded image: box:2\n"
    assert other.ok("images", "-q", "--no-trunc") == cli.ok("images", "-q", "--no-trunc", first)
    assert cli.ok("copy", "-q", first, f"{hub.host}/{hub.name()}") == f"{digest}\n"
    back = f"{hub.host}/{hub.name()}:back"
    cli.ok("copy", f"docker-archive:{tmp_path}/docker.tar", back)
    other.ok("pull", "-q", back)
    assert other.ok("images", "-q", "--no-trunc", back) == cli.ok(
        "images", "-q", "--no-trunc", first
    )


def test_a_layout_that_exists_gets_the_image_beside_its_own(
    cli: Cli, hub: RegistryServer, tmp_path: Path
) -> None:
    names = [f"{hub.host}/{hub.name()}:{number}" for number in range(2)]
    for name in names:
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / "tree" / "file").write_text(name)
        cli.ok("import", str(tmp_path / "tree"), name)
        cli.ok("push", "-q", name)
    layout = tmp_path / "layout"
    layout.mkdir()
    for name, target in ((names[0], "a"), (names[1], "b"), (names[1], "a")):
        cli.ok("copy", "--preserve-digests", name, f"oci:{layout}:{target}")
    back = f"{hub.host}/{hub.name()}"
    for target, name in (("a", names[1]), ("b", names[1])):
        digest = cli.ok("copy", "-q", name, f"{back}:{target}")
        assert cli.ok("copy", "-q", f"oci:{layout}:{target}", f"{back}:again") == digest
    first = cli.ok("copy", "-q", names[0], f"{back}:first").strip()
    listed = json.loads((layout / "index.json").read_text())["manifests"]
    assert [entry["digest"] == first for entry in listed] == [True, False, False]
    assert "annotations" not in listed[0] or not listed[0]["annotations"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert "is no OCI layout" in cli.fails("copy", names[0], f"oci:{tmp_path}/other")
    assert "cannot be written" in cli.fails("copy", names[0], f"oci:{tmp_path}/other/file")


def test_skopeo_and_umoci_read_what_comes_into_a_layout(
    cli: Cli, hub: RegistryServer, tmp_path: Path
) -> None:
    for tool in ("skopeo", "umoci"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    name, layout = f"{hub.host}/{hub.name()}", tmp_path / "layout"
    (tmp_path / "tree").mkdir()
    cli.ok("import", str(tmp_path / "tree"), name)
    cli.ok("push", "-q", name)

    def run(*words: str) -> str:
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    run("umoci", "init", "--layout", str(layout))
    run("umoci", "new", "--image", f"{layout}:base")
    digest = cli.ok("copy", "-q", name, f"oci:{layout}:mine").strip()
    assert run("umoci", "ls", "--layout", str(layout)).split() == ["base", "mine"]
    found = json.loads(run("skopeo", "inspect", f"oci:{layout}:mine"))
    raw = json.loads(run("skopeo", "inspect", "--raw", f"oci:{layout}:mine"))
    image = cli.ok("images", "-q", "--no-trunc", name).strip()
    assert found["Digest"] == digest and raw["config"]["digest"] == image


def test_a_short_name_is_that_of_registries_conf(
    cli: Cli, hub: RegistryServer, tmp_path: Path
) -> None:
    name, target = f"{hub.host}/{hub.name()}", f"{hub.host}/{hub.name()}"
    aliases = f'[aliases]\n"box" = "{name}"\n"goal" = "{target}"\n'
    write(tmp_path / "home/.config/containers/registries.conf", aliases)
    (tmp_path / "tree").mkdir()
    cli.ok("import", str(tmp_path / "tree"), f"{name}:1")
    cli.ok("push", "-q", f"{name}:1")
    assert cli.ok("copy", "-q", "box:1", "goal:2") == cli.ok(
        "copy", "-q", f"docker://{target}:2", f"docker://{target}:3"
    )


def test_a_copy_that_fails_leaves_nothing(cli: Cli, hub: RegistryServer, tmp_path: Path) -> None:
    missing = f"{hub.host}/{hub.name()}:nope"
    for target in (f"oci:{tmp_path}/layout", f"oci-archive:{tmp_path}/oci.tar"):
        assert cli.fails("copy", missing, target).startswith("Error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "store"]
    assert "cannot be read" in cli.fails("copy", f"oci-archive:{tmp_path}/x", missing)
