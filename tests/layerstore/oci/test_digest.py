"""Digests: what is one, chains of them, and content held to them."""

from __future__ import annotations

import io

import pytest

from layerstore.errors import (
    DigestMismatch,
    InvalidDigest,
    InvalidImage,
    InvalidReference,
    SizeMismatch,
)
from layerstore.oci.digest import Digest, VerifyingReader, chain_id, sha256_digest

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_digest_knows_its_parts() -> None:
    digest = Digest.parse(EMPTY)
    assert digest == EMPTY == sha256_digest(b"")
    assert digest.algorithm == "sha256"
    assert digest.encoded == EMPTY[7:]
    assert digest.short == "e3b0c44298fc"
    assert Digest.of_hex(EMPTY[7:]) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:../../../etc/passwd",
        EMPTY[:-1],
        EMPTY + "0",
        EMPTY.upper(),
        EMPTY + "\n",
        EMPTY[7:],
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha512:" + "a" * 128,
    ],
)
def test_anything_else_is_refused_as_a_name_and_as_a_document(text: str) -> None:
    with pytest.raises(InvalidDigest) as caught:
        Digest.parse(text)
    assert isinstance(caught.value, InvalidReference) and isinstance(caught.value, InvalidImage)


def test_chain_id_is_that_of_the_image_spec() -> None:
    a, b = sha256_digest(b"a"), sha256_digest(b"b")
    assert chain_id(None, a) == a
    assert chain_id(a, b) == sha256_digest(f"{a} {b}".encode())


def test_reader_passes_on_what_is_as_announced() -> None:
    reader = VerifyingReader(io.BytesIO(b"content"), sha256_digest(b"content"), 7)
    assert reader.read(3) + reader.read() == b"content"
    assert reader.size == 7


def test_reader_refuses_other_content_at_its_end() -> None:
    reader = VerifyingReader(io.BytesIO(b"c0ntent"), sha256_digest(b"content"), 7)
    with pytest.raises(DigestMismatch, match="damaged or altered"):
        reader.finish()


def test_reader_stops_at_once_when_there_is_too_much() -> None:
    reader = VerifyingReader(io.BytesIO(b"x" * 100), None, 10)
    with pytest.raises(SizeMismatch, match="longer than the 10 bytes"):
        reader.read(50)


def test_reader_notices_when_there_is_too_little() -> None:
    reader = VerifyingReader(io.BytesIO(b"x"), None, 10)
    with pytest.raises(SizeMismatch, match="ends after 1 bytes"):
        reader.finish()
