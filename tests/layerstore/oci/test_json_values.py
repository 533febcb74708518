"""What counts as JSON, and what does not."""

from __future__ import annotations

import json

import pytest

from layerstore.errors import InvalidImage, LimitExceeded
from layerstore.oci.documents import Descriptor, ImageConfig, Manifest, parse_index
from layerstore.oci.json_values import (
    DOCUMENT_LIMIT,
    loads,
    object_of,
    parse_document,
    parse_json,
    text_of,
)

NO_JSON = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 310, "9" * 5000, "[" * 100_000]


@pytest.mark.parametrize("text", NO_JSON, ids=range(len(NO_JSON)))
def test_what_no_other_program_reads_is_no_json(text: str) -> None:
    with pytest.raises(InvalidImage, match="the manifest is not JSON"):
        parse_json(f'{{"a": {text}}}'.encode(), "manifest")


@pytest.mark.parametrize("text", ["NaN", "1e999"])
def test_every_document_of_an_image_is_held_to_it(text: str) -> None:
    for parse in (ImageConfig.parse, Manifest.parse, parse_index):
        with pytest.raises(InvalidImage, match="not JSON"):
            parse(f'{{"x": {text}}}'.encode())


def test_numbers_that_others_read_are_read() -> None:
    assert loads("[1.5, -0, 1e308, 123456789012345678901234567890]") == [
        1.5,
        0,
        1e308,
        123456789012345678901234567890,
    ]


def test_half_of_a_surrogate_pair_becomes_the_replacement_character() -> None:
    assert parse_json(rb'["\ud800", "\ud83d\ude00"]', "x") == ["\ufffd", "\U0001f600"]


def test_a_document_is_an_object_of_limited_size() -> None:
    with pytest.raises(InvalidImage, match="the index is not a JSON object"):
        parse_document(b"[]", "index")
    with pytest.raises(LimitExceeded, match="larger than 8 MiB"):
        parse_document(b" " * (DOCUMENT_LIMIT + 1), "index")


def test_fields_have_the_type_that_is_asked_for() -> None:
    fields = parse_document(json.dumps({"a": "x", "b": {"c": 1}, "n": None}).encode(), "x")
    assert (text_of(fields, "a"), text_of(fields, "n"), text_of(fields, "z")) == ("x", "", "")
    assert (object_of(fields, "b"), object_of(fields, "n")) == ({"c": 1}, {})
    with pytest.raises(InvalidImage, match='"b" is not text'):
        text_of(fields, "b")
    with pytest.raises(InvalidImage, match='"a" is not an object'):
        object_of(fields, "a")


@pytest.mark.parametrize("size", [-1, True, 1.5, "1", None, 1 << 63])
def test_a_size_is_one_that_a_file_can_have(size: object) -> None:
    with pytest.raises(InvalidImage, match="has the size"):
        Descriptor.of({"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": size})  # type: ignore[dict-item]
