"""podman runs containers on PyUnion, with id maps and without: crun makes them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from tests.engines.conftest import only_if_asked, require_engines
from tests.engines.operations import image_tree
from tests.engines.store import APART, Store
from tests.helpers.trees import Tree, assert_same

_MAP = ("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536")

_SCRIPT = """
cd /data
echo more >> appended; echo new > new; chown 3:4 given; chmod 4755 suid; mkdir -p made/deep
mv renamed made/deep/; rm -r removed-dir removed replaced-dir; mkdir replaced-dir
touch replaced-dir/x; mv renamed-dir made/; rm made/renamed-dir/one
"""


def _run_and_commit(store: Store, options: Sequence[str]) -> Tree:
    words = ("run", "--name", "changed", *options, "base", "sh", "-ec", _SCRIPT)
    with store.start_engine("podman", *words, through=APART) as process:
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
