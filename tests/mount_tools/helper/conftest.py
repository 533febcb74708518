"""How an ordinary user mounts: by fusermount3, or as root of a user namespace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounts import require
from tests.helpers.users import device_mode


@pytest.fixture(scope="module")
def device_for_everybody() -> Iterator[None]:
    """Open /dev/fuse up as distributions ship it, and put it back."""
    with device_mode(0o666):
        yield


@pytest.fixture(params=["namespace", "user"])
def mode(request: pytest.FixtureRequest) -> str:
    if request.param == "namespace":
        limit = Path("/proc/sys/user/max_user_namespaces")
        require(limit.exists() and int(limit.read_text()) > 0, "there are no user namespaces here")
    return str(request.param)
