"""Which filesystem a step sees, and that the next step sees what it has changed."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from layerstore import Store
from layerstore.operations.rootfs import import_image
from tests.helpers.builds import Builds, cached
from tests.helpers.containers import Containers
from tests.helpers.mounts import require_fuse, require_root, run

HEAD = """FROM busy:1
WORKDIR /deep
COPY f one
COPY f /etc/two
RUN cat one /etc/two > both; rm one
COPY f last
RUN cat last >> both
"""


def test_a_run_sees_what_was_copied_before_it(builds: Builds) -> None:
    builds.write(HEAD, f="x")
    builds.ok()
    assert builds.sh("cat both; echo; ls").split() == ["xxx", "both", "last"]
    names = [sorted(os.listdir(layer)) for layer in builds.layers()[:6]]
    assert names == [["deep"], ["deep"], ["deep"], ["etc"], ["deep"], ["deep"]]


def test_a_step_that_fails_after_the_change_leaves_the_steps_before(builds: Builds) -> None:
    builds.write(HEAD.replace("rm one", "exit 3"), f="x")
    assert builds.run().returncode == 3
    name = builds.containers.ok("ps", "-aq")
    changed = builds.containers.ok("diff", name).splitlines()
    assert "A /deep/one" in changed and "A /deep/both" in changed
    builds.containers.ok("rm", name)
    builds.write(HEAD, f="x")
    assert cached(builds.ok()) == 3


def test_layers_may_be_moved_while_the_kernel_mounts_again(builds: Builds) -> None:
    """The packer moves a layer as soon as it is recorded, and the next COPY is mounted on it."""
    files = {f"f{n}": "x" for n in range(12)}
    builds.write("FROM busy:1\n" + "".join(f"COPY {name} big /\n" for name in files), **files)
    (builds.context / "big").write_bytes(os.urandom(8 << 20))
    builds.ok()
    assert builds.sh("cat /f? /f1?") == "x" * 12


def test_the_kernel_may_refuse(tmp_path: Path, rootfs: Path) -> None:
    """The upper of an overlayfs cannot be on an overlayfs: then all steps are done on our mount."""
    require_root()
    require_fuse()
    for name in ("below", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/below,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    with ExitStack() as stack:
        run("mount", "-t", "overlay", "-o", options, "overlay", tmp_path / "merged")
        stack.callback(run, "umount", "-l", tmp_path / "merged")
        with Store.open(tmp_path / "merged/store", sync=False) as store:
            import_image(store, rootfs, "busy:1")
        containers = Containers(tmp_path / "merged/store", stack)
        stack.callback(containers.end)
        builds = Builds(containers, tmp_path / "context")
        builds.write("FROM busy:1\nCOPY f /a\nCOPY f /b\n", f="x")
        builds.ok()
        assert [sorted(os.listdir(layer)) for layer in builds.layers()[:2]] == [["b"], ["a"]]
