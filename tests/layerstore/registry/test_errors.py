"""The errors of registries: one tree, whose classes say what a caller may do."""

from __future__ import annotations

from layerstore import errors as store
from layerstore.registry import errors


def test_what_may_pass_and_what_may_not() -> None:
    for kind in (errors.Interrupted, errors.TooSlow, errors.ServerFailed, errors.NoConnection):
        assert issubclass(kind, errors.Unreachable)
    for final in (errors.Denied, errors.Missing, errors.BadAnswer, errors.RateLimited):
        assert not issubclass(final, errors.Unreachable)
    assert issubclass(errors.PullLimit, errors.RateLimited)


def test_callers_of_the_store_know_them_by_its_classes() -> None:
    assert issubclass(errors.RegistryError, store.StoreError)
    assert issubclass(errors.ManifestUnknown, store.NotFound)
    assert issubclass(errors.WrongContent, store.DigestMismatch)
    assert issubclass(errors.WrongSize, store.SizeMismatch)


def test_host_is_kept() -> None:
    assert errors.Denied("no", "r.example").host == "r.example"
    assert errors.RateLimited("no", "r.example", 5).retry_after == 5
    assert errors.ServerFailed("no", "r.example", 503).status == 503
