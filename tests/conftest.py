"""What all tests share: the test that leaks a file, a connection or a generator is the one to fail.

An object in a reference cycle is freed only by a later collection, and its warning would
fail the test that happens to run at that moment.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

_torn_down: list[str] = []


def _collect() -> None:
    gc.collect()
    # The next collection skips what is alive now, so that it takes less than a millisecond.
    gc.freeze()


def pytest_fixture_post_finalizer(fixturedef: pytest.FixtureDef[object]) -> None:
    """Note a fixture whose value outlived a test, so that it was frozen."""
    if fixturedef.scope != "function":
        _torn_down.append(fixturedef.argname)


def pytest_sessionfinish() -> None:
    """Let pytest's own last collection see everything."""
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _modules_leak_nothing() -> Iterator[None]:
    gc.freeze()
    _torn_down.clear()
    yield
    if _torn_down:
        gc.unfreeze()
        _collect()


@pytest.fixture(autouse=True)
def _tests_leak_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    # pytest keeps the values of the fixtures, which are torn down by now.
    request.node.funcargs.clear()
    _collect()
