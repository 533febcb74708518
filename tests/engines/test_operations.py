"""podman and buildah on PyUnion: after each operation the tree is that of kernel overlayfs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.engines.conftest import only_if_asked, require_engines
from tests.engines.operations import (
    BUILDAH,
    PODMAN,
    podman_diff,
    run_and_commit,
    working_container,
)
from tests.engines.store import Store
from tests.helpers.trees import Tree, assert_same

Operation = Callable[[Store], Tree]

# They have most of what the others have, and take 10 s.
_ALWAYS = (working_container, run_and_commit, podman_diff)


def _cases(operations: Sequence[Operation]) -> list[object]:
    return [
        pytest.param(
            operation, id=operation.__name__, marks=() if operation in _ALWAYS else only_if_asked
        )
        for operation in operations
    ]


@pytest.mark.parametrize("operation", _cases(BUILDAH))
def test_buildah(store: Store, native: Store, operation: Operation) -> None:
    assert_same(operation(native), operation(store))


@pytest.mark.parametrize("operation", _cases(PODMAN))
def test_podman(store: Store, native: Store, operation: Operation) -> None:
    require_engines("podman")
    assert_same(operation(native), operation(store))
