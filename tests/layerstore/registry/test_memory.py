"""The memory of pull and push does not grow with a layer.

PYUNION_LAYER_MIB=5120 takes a layer of 5 GiB.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.operations.rootfs import import_image
from tests.helpers.registry_server import RegistryServer

pytestmark = pytest.mark.slow

MIB = 1 << 20
LAYER = int(os.environ.get("PYUNION_LAYER_MIB", "160"))
SPARE = 40  # MiB; what moves with the allocator, and the chunks of an upload


def peak(root: Path, *words: str) -> float:
    """Run `pyunion`, which has to succeed; return the most memory that it had, in MiB."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mount_tools.pyunion", "--root", str(root), "--no-sync", *words],
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_maxrss / 1024


def test_the_size_of_a_layer_does_not_count(
    registry_server: RegistryServer, tmp_path: Path
) -> None:
    peaks: dict[str, list[float]] = {"push": [], "pull": []}
    for size in (1, LAYER):
        tree, name = tmp_path / str(size), f"{registry_server.host}/{registry_server.name()}:1"
        tree.mkdir()
        with open(tree / "file", "wb") as file:
            for _ in range(size):
                file.write(os.urandom(MIB // 4) + b"x" * (MIB - MIB // 4))
        with Store.open(tmp_path / "store", sync=False) as store:
            store.images.tag(import_image(store, tree), name)
        peaks["push"].append(peak(tmp_path / "store", "push", "-q", name))
        peaks["pull"].append(peak(tmp_path / "other", "pull", "-q", name))
    for small, large in peaks.values():
        assert large < small + SPARE, peaks
