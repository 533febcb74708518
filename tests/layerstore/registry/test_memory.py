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


# VmHWM and not ru_maxrss, which counts the process that forked this one too.
PROGRAM = """
import sys
from mount_tools.pyunion import main
status = main(sys.argv[1:])
with open("/proc/self/status") as file:
    print(next(line.split()[1] for line in file if line.startswith("VmHWM:")))
sys.exit(status)
"""


def peak(root: Path, *words: str) -> float:
    """Run `pyunion`, which has to succeed; return the most memory that it had, in MiB."""
    command = [sys.executable, "-c", PROGRAM, "--root", str(root), "--no-sync", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / 1024


def test_the_size_of_a_layer_does_not_count(
    registry_server: RegistryServer, tmp_path: Path
) -> None:
    peaks: dict[str, list[float]] = {"push": [], "pull": []}
    for size in (1, LAYER):
        tree, name = tmp_path / str(size), f"{registry_server.host}/{registry_server.name()}:1"
        tree.mkdir()
        with open(tree / "file", "wb") as file:
            for _ in range(size):
                file.write(os.urandom(MIB))
        with Store.open(tmp_path / "store", sync=False) as store:
            store.images.tag(import_image(store, tree), name)
        peaks["push"].append(peak(tmp_path / "store", "push", "-q", name))
        peaks["pull"].append(peak(tmp_path / "other", "pull", "-q", name))
    for small, large in peaks.values():
        assert large < small + SPARE, peaks
