"""dockerd's driver fuse-overlayfs, with a link of that name that leads to mount.pyunion."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engines.conftest import only_if_asked
from tests.engines.operations import unpacked
from tests.engines.store import fill, write_program
from tests.helpers.dockerd import docker_daemon, require_docker
from tests.helpers.mounts import require_fuse, run
from tests.helpers.trees import Tree, assert_same

_SCRIPT = """
cd /data
echo more >> appended; echo new > new; chown 3:4 given; chmod 4755 suid; mkdir -p made/deep
mv renamed made/deep/; rm -r removed-dir removed replaced-dir; mkdir replaced-dir
touch replaced-dir/x; mv renamed-dir made/; rm made/renamed-dir/one
"""

_CONTAINERFILE = """FROM base
COPY file /made/file
RUN rm -r /data/removed-dir && mv /data/renamed-dir /data/moved && echo more >> /data/appended
RUN rm /made/file && mkdir /made/file && chown 1:2 /made/file
"""


pytestmark = only_if_asked


class Docker:
    """A docker daemon with one image, `base`."""

    def __init__(self, call: list[str], scratch: Path) -> None:
        self._call = call
        self._scratch = scratch
        (scratch / "base").mkdir()
        fill(scratch / "base")
        run("tar", "-C", scratch / "base", "-cf", scratch / "base.tar", ".")
        self("import", str(scratch / "base.tar"), "base")

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self._call, *words], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"docker {words}: {done.stderr}"
        return done.stdout.strip()

    def tree(self, container: str) -> Tree:
        """Return the tree of a container."""
        with tempfile.TemporaryDirectory(dir=self._scratch) as scratch:
            self("export", "-o", f"{scratch}/tar", container)
            return unpacked(Path(scratch, "tar"), Path(scratch, "tree"))

    def tree_of_image(self, image: str) -> Tree:
        container = self("create", image, "sh")
        try:
            return self.tree(container)
        finally:
            self("rm", container)


@contextmanager
def _started(driver: str, path: str = "") -> Iterator[Docker]:
    with tempfile.TemporaryDirectory(prefix="pyunion-docker-") as scratch:
        env = {**os.environ, "PATH": f"{path}{os.environ['PATH']}"}
        log = Path(scratch, "log")
        with docker_daemon(log, "--storage-driver", driver, env=env) as call:
            yield Docker(call, Path(scratch))


@pytest.fixture(scope="module")
def on_pyunion() -> Iterator[Docker]:
    require_docker()
    require_fuse()
    with tempfile.TemporaryDirectory(prefix="pyunion-path-") as path:
        write_program(Path(path, "fuse-overlayfs"))
        with _started("fuse-overlayfs", f"{path}:") as docker:
            yield docker


@pytest.fixture(scope="module")
def on_overlay() -> Iterator[Docker]:
    require_docker()
    with _started("overlay2") as docker:
        yield docker


def test_run_and_commit(on_pyunion: Docker, on_overlay: Docker) -> None:
    trees = []
    for docker in (on_overlay, on_pyunion):
        docker("run", "--network", "none", "--name", "changed", "base", "sh", "-ec", _SCRIPT)
        changed = docker("diff", "changed").splitlines()
        trees.append((docker.tree("changed"), sorted(changed)))
        docker("commit", "changed", "committed")
        docker("rm", "changed")
        assert_same(trees[-1][0], docker.tree_of_image("committed"), skip=("nlink", "names"))
    assert trees[0][1] == trees[1][1]
    assert_same(trees[0][0], trees[1][0])


def test_build(on_pyunion: Docker, on_overlay: Docker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host")
    (tmp_path / "Dockerfile").write_text(_CONTAINERFILE)
    for docker in (on_overlay, on_pyunion):
        docker("build", "--network", "none", "-t", "built", str(tmp_path))
        again = docker("build", "--network", "none", "-t", "built", str(tmp_path))
        assert again.count("Using cache") == 3
    assert_same(on_overlay.tree_of_image("built"), on_pyunion.tree_of_image("built"))


def test_the_driver_is_that(on_pyunion: Docker) -> None:
    assert on_pyunion("info", "--format", "{{.Driver}}") == "fuse-overlayfs"
