"""A store whose files have one mode on disk: owners and modes are in attributes of the files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.engines.conftest import new_store, only_if_asked, require_engines
from tests.engines.operations import (
    commit_oci,
    copy_and_add,
    run_and_commit,
    without_special_bits,
)
from tests.engines.store import Store
from tests.helpers.trees import Tree, assert_same

_MODES = {"private": 0o700, "755": 0o755}


@pytest.fixture(scope="module", params=["private", pytest.param("755", marks=only_if_asked)])
def masked(request: pytest.FixtureRequest) -> Iterator[tuple[Store, int]]:
    """A store with force_mask, and the mode of all its files."""
    require_engines("buildah")
    with new_store(options=(f'force_mask = "{request.param}"',)) as store:
        yield store, _MODES[request.param]


def test_trees_are_those_of_a_plain_store(masked: tuple[Store, int], native: Store) -> None:
    store, mode = masked
    # containers/storage 1.43 cannot unpack a fifo or a device with a mask, and loses suid.
    operations: list[Callable[[Store], Tree]] = [partial(commit_oci, special=False)]
    if mode == 0o755:
        operations += [run_and_commit, copy_and_add]
    for operation in operations:
        wanted, found = operation(native), operation(store)
        assert_same(without_special_bits(wanted), without_special_bits(found))
    layers = list((store.base / "root/overlay").glob("*/diff"))
    assert layers
    for path in (path for layer in layers for path in layer.rglob("*")):
        st = path.lstat()
        if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
            assert (st.st_uid, stat.S_IMODE(st.st_mode)) == (0, mode), path
            assert "user.containers.override_stat" in os.listxattr(path), path
