"""The benchmark of registries: what each subject is asked to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.commit import make_change
from benchmarks.demo import registry
from benchmarks.registry import LAYERS, Given, measure, write_layout
from tests.helpers.mounts import require_root

NEEDS = {"pyunion": (), "docker": ("dockerd",), "podman": ("podman",), "skopeo": ()}


@pytest.mark.parametrize(
    "name",
    [
        "pyunion",
        "skopeo",
        pytest.param("docker", marks=pytest.mark.slow),
        pytest.param("podman", marks=pytest.mark.slow),
    ],
)
def test_subject_does_all_it_can_and_leaves_nothing(name: str, short: Path) -> None:
    require_root()
    for tool in ("docker-registry", "skopeo", *NEEDS[name]):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    rootfs = short / "rootfs"
    rootfs.mkdir()
    make_change(rootfs, 30, 1 << 20)
    with registry(short, "registry") as host:
        taken = measure(short, Given.make(short, rootfs, host), [name], 1)
    done = {row for row, by_name in taken.items() if by_name}
    assert done == ({"pull", "again"} if name == "skopeo" else {"pull", "again", "push", "repush"})
    assert list((short / f"scratch-{name}").iterdir()) == []


def test_the_layers_are_of_about_the_same_size(tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    make_change(rootfs, 50, 2 << 20)
    write_layout(tmp_path / "layout", tmp_path, rootfs)
    (entry,) = json.loads((tmp_path / "layout" / "index.json").read_text())["manifests"]
    blobs = tmp_path / "layout" / "blobs"
    manifest = json.loads((blobs / entry["digest"].replace(":", "/")).read_text())
    sizes = [layer["size"] for layer in manifest["layers"]]
    assert len(sizes) == LAYERS and min(sizes) * 4 > max(sizes)
