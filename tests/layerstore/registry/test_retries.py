"""How often, and after how long, something is tried again."""

from __future__ import annotations

import pytest

from layerstore.registry.errors import (
    CertificateRefused,
    Denied,
    Interrupted,
    NoConnection,
    NotTls,
    PullLimit,
    RateLimited,
    RegistryError,
    ServerFailed,
    TooSlow,
)
from layerstore.registry.retries import Retries

RETRIES = Retries(tries=5, first=1, longest=10)


@pytest.mark.parametrize(
    "error", [Interrupted("x"), TooSlow("x"), ServerFailed("x", "h", 500), RateLimited("x", "h")]
)
def test_waits_double_with_some_chance(error: RegistryError) -> None:
    for failed, middle in enumerate([1, 2, 4, 8], 1):
        waits = [RETRIES.wait(failed, error) for _ in range(50)]
        assert all(wait is not None and 0.75 * middle <= wait <= 1.25 * middle for wait in waits)
        assert len(set(waits)) > 1
    assert RETRIES.wait(5, error) is None


@pytest.mark.parametrize(
    "error", [Denied("x"), NoConnection("x"), PullLimit("x", "h"), PullLimit("x", "h", 1)]
)
def test_what_does_not_pass_is_not_waited_for(error: RegistryError) -> None:
    assert RETRIES.wait(1, error) is None


def test_host_that_answered_before_is_waited_for() -> None:
    assert RETRIES.wait(1, NoConnection("x"), answered=True) is not None
    assert RETRIES.wait(5, NoConnection("x"), answered=True) is None
    for error in (NotTls("x"), CertificateRefused("x"), Denied("x")):
        assert RETRIES.wait(1, error, answered=True) is None


def test_wait_that_a_registry_asks_for() -> None:
    assert RETRIES.wait(1, RateLimited("x", "h", 7)) == 7
    assert RETRIES.wait(1, RateLimited("x", "h", 11)) is None


def test_many_failures_do_not_overflow() -> None:
    wait = Retries(tries=10_000, longest=60).wait(1000, Interrupted("x"))
    assert wait is not None and wait <= 75
