"""podman runs containers on PyUnion, with id maps and without: crun makes them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from tests.engines.conftest import only_if_asked, require_engines
from tests.engines.operations import image_tree
from tests.engines.store import Store
from tests.helpers.trees import Tree, assert_same

_MAP = ("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536")

# crun refuses a machine that has version 2 of control groups beside version 1.  And it gives
# the container's root the file that is its stdin: without a /dev/null of its own, the machine's.
_APART = """
umount /sys/fs/cgroup/unified 2> /dev/null
mount -t tmpfs none /mnt; mknod -m 666 /mnt/null c 1 3
mount --bind /mnt/null /dev/null; umount -l /mnt
exec "$@"
"""
_WITHOUT_HYBRID_CGROUPS = ("unshare", "-m", "sh", "-c", _APART, "sh")

_SCRIPT = """
cd /data
echo more >> appended; echo new > new; chown 3:4 given; chmod 4755 suid; mkdir -p made/deep
mv renamed made/deep/; rm -r removed-dir removed replaced-dir; mkdir replaced-dir
touch replaced-dir/x; mv renamed-dir made/; rm made/renamed-dir/one
"""


def _run_and_commit(store: Store, options: Sequence[str]) -> Tree:
    words = ("run", "--name", "changed", *options, "base", "sh", "-ec", _SCRIPT)
    with store.start_engine("podman", *words, through=_WITHOUT_HYBRID_CGROUPS) as process:
        out, err = process.communicate(timeout=120)
    try:
        if process.returncode != 0 and not store.on_pyunion:
            pytest.skip(f"podman cannot run containers here: {err[-300:]}")
        assert process.returncode == 0, f"{out}{err}"
        store.podman("commit", "-q", "changed", "changed-image")
    finally:
        store.podman("rm", "-f", "-i", "changed")
    tree = image_tree(store, "changed-image")
    store.podman("rmi", "changed-image")
    return tree


@only_if_asked
@pytest.mark.parametrize(
    "options",
    [(), _MAP],
    ids=["plain", "uidmap"],
)
def test_run_and_commit(store: Store, native: Store, options: Sequence[str]) -> None:
    require_engines("podman", "crun", "conmon")
    owner = os.stat(os.devnull).st_uid
    # Without the map: podman 4.3 commits the host's ids where it maps on kernel overlayfs.
    assert_same(_run_and_commit(native, ()), _run_and_commit(store, options))
    assert os.stat(os.devnull).st_uid == owner
