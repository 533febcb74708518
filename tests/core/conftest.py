"""The core is tested in this process, on real directories, as root: layers hold devices."""

from __future__ import annotations

import faulthandler

import pytest

from tests.helpers.mounts import require_root


@pytest.fixture(autouse=True)
def as_root() -> None:
    require_root()


@pytest.fixture(autouse=True, scope="session")
def tracebacks_of_a_deadlock() -> None:
    faulthandler.enable()
