"""Archives side by side: what each subject is asked to do, and what is said of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.archives import Given, measure
from benchmarks.commit import make_change
from tests.helpers.mounts import require_root

NEEDS = {
    "pyunion": ("skopeo",),
    "docker": ("skopeo", "dockerd"),
    "podman": ("skopeo", "podman"),
    "umoci": ("skopeo", "umoci"),
}


@pytest.mark.parametrize(
    "name",
    [
        "pyunion",
        "umoci",
        pytest.param("docker", marks=pytest.mark.slow),
        pytest.param("podman", marks=pytest.mark.slow),
    ],
)
def test_subject_does_all_it_can_and_leaves_nothing(name: str, short: Path) -> None:
    """A second round begins where the first did; an export that lacks a file is an error."""
    require_root()
    if missing := [tool for tool in NEEDS[name] if shutil.which(tool) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    rootfs = short / "rootfs"
    rootfs.mkdir()
    make_change(rootfs, 30, 1 << 20)
    taken = measure(short, Given.make(short, rootfs), [name], 2)
    done = {row for row, by_name in taken.items() if by_name}
    missing = {"docker": ["unpack"], "umoci": ["save", "load"]}.get(name, [])
    assert done == {"import", "export", "save", "load", "unpack"} - set(missing)
    assert all(len(taken[row][name].seconds) == 2 for row in done)
    assert list((short / f"scratch-{name}").iterdir()) == []
