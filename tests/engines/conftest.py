"""The fixtures of the tests with container engines: private stores, on PyUnion and without."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engines.store import Store
from tests.engines.user import User, new_user
from tests.helpers.mounts import require_fuse, require_root
from tests.helpers.users import device_mode

only_if_asked = pytest.mark.skipif(
    "PYUNION_EXAMPLES" not in os.environ,
    reason="PYUNION_EXAMPLES=1 runs all tests with engines, which take minutes",
)


def require_engines(*programs: str) -> None:
    """Skip the running test unless it can mount and has all of these programs."""
    require_root()
    require_fuse()
    for program in (*programs, "busybox"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")


@contextmanager
def new_store(*, on_pyunion: bool = True, options: Sequence[str] = ()) -> Iterator[Store]:
    """Yield a store of its own, with one image, `base`."""
    # Not beneath pytest's directory: an engine's paths are long, and a socket's are not.
    base = Path(tempfile.mkdtemp(prefix="pyunion-engine-"))
    base.chmod(0o755)  # for the users of a container with an id map
    store = Store(base, on_pyunion=on_pyunion, options=options)
    try:
        store.make_base_image()
        yield store
    finally:
        store.close()
        shutil.rmtree(base)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """A store on PyUnion, and buildah to work on it."""
    require_engines("buildah")
    with new_store() as made:
        yield made


@pytest.fixture(scope="module")
def native() -> Iterator[Store]:
    """A store on kernel overlayfs."""
    require_engines("buildah")
    with new_store(on_pyunion=False) as made:
        yield made


@pytest.fixture(scope="module")
def users(store: Store) -> Iterator[tuple[User, User]]:
    """The user on kernel overlayfs, and on PyUnion."""
    require_engines("podman", "crun", "newuidmap", "setpriv")
    archive = store.base / "base.oci"
    store.buildah("push", "-q", "base", f"oci-archive:{archive}:base")
    with (
        device_mode(0o666),
        new_user(archive, on_pyunion=False) as native,
        new_user(archive, on_pyunion=True) as ours,
    ):
        yield native, ours
