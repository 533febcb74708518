"""Errors of registries: one class for each kind, whatever the status is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerstore.registry.answers import Explanation, explanation, failure
from layerstore.registry.errors import (
    BlobUnknown,
    Denied,
    ManifestUnknown,
    Missing,
    PullLimit,
    RateLimited,
    Refused,
    RegistryError,
    RepositoryUnknown,
    ServerFailed,
    UploadInvalid,
    UploadLost,
)
from tests.helpers.effort import examples
from tests.layerstore.registry.fakes import FakeAnswer


def coded(code: str, message: str = "the reason") -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "MANIFEST_UNKNOWN", ManifestUnknown),
        (404, "NAME_UNKNOWN", RepositoryUnknown),
        (404, "BLOB_UNKNOWN", BlobUnknown),
        (404, "", Missing),
        (403, "", Denied),
        (401, "DENIED", Denied),
        (400, "DIGEST_INVALID", UploadInvalid),
        (400, "SIZE_INVALID", UploadInvalid),
        (404, "BLOB_UPLOAD_UNKNOWN", UploadLost),
        (429, "", RateLimited),
        (200, "TOOMANYREQUESTS", RateLimited),
        (500, "", ServerFailed),
        (503, "UNKNOWN", ServerFailed),
        (400, "MANIFEST_INVALID", Refused),
        (418, "", Refused),
    ],
)
def test_kind_of_an_error(status: int, code: str, kind: type[RegistryError]) -> None:
    answer = FakeAnswer(status, coded(code) if code else b"")
    found = failure(answer, "r.example", "the thing x")
    assert type(found) is kind
    assert found.host == "r.example" and "r.example" in str(found)


def test_reason_of_the_registry_is_shown() -> None:
    found = failure(FakeAnswer(400, coded("X", " why\nnot ")), "r.example", "the thing")
    assert str(found) == "r.example refused the thing with 400: why\\nnot"


def test_missing_image_is_told_in_dockers_words() -> None:
    for answer in (FakeAnswer(404), FakeAnswer(404, coded("MANIFEST_UNKNOWN", "manifest unknown"))):
        found = failure(answer, "h", "the manifest x", ManifestUnknown, "debian:none")
        assert type(found) is ManifestUnknown
        assert str(found) == (
            "manifest for debian:none not found: manifest unknown: manifest unknown"
        )


def test_class_of_an_answer_404_without_a_code() -> None:
    assert type(failure(FakeAnswer(404), "h", "x", ManifestUnknown)) is ManifestUnknown


def test_limits_are_told_apart() -> None:
    plain = failure(FakeAnswer(429, headers=[("Retry-After", "30")]), "h", "x")
    assert not isinstance(plain, PullLimit)
    assert isinstance(plain, RateLimited) and plain.retry_after == 30
    counted = failure(FakeAnswer(429, headers=[("RateLimit-Limit", "100;w=21600")]), "h", "x")
    assert isinstance(counted, PullLimit)


@settings(max_examples=examples(50))
@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_no_body_makes_a_failure(data: bytes) -> None:
    found = explanation(FakeAnswer(400, data))
    assert isinstance(found, Explanation) and found.text.isprintable()


def test_body_that_is_too_long_says_nothing() -> None:
    assert explanation(FakeAnswer(400, coded("X", "y" * 100_000))) == ("", "")
