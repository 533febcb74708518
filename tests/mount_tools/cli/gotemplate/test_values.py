"""Values are printed as Go prints them."""

from __future__ import annotations

import pytest

from mount_tools.cli.errors import TemplateError
from mount_tools.cli.gotemplate.values import MAX_DEPTH, Row, Value, go_json, go_text, to_bytes


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "<no value>"),
        (True, "true"),
        (7, "7"),
        ("x", "x"),
        (["A=b", "C"], "[A=b C]"),
        ({"b": None, "a": [1]}, "map[a:[1] b:<nil>]"),
        ({}, "map[]"),
        (1.0, "1"),
        (1.5, "1.5"),
        (1e300, "1e+300"),
    ],
)
def test_values_as_text(value: Value, text: str) -> None:
    assert go_text(value) == text


def test_json_is_compact_and_only_a_whole_row_is_escaped() -> None:
    assert go_json({"a": ["<none>", "é"], "b": None}) == '{"a":["<none>","é"],"b":null}'
    assert go_json(Row(Digest="<none>")) == '{"Digest":"\\u003cnone\\u003e"}'


def deep(levels: int) -> Value:
    value: Value = "x"
    for _ in range(levels):
        value = [value]
    return value


def test_how_deep_a_value_may_be() -> None:
    assert go_text(deep(MAX_DEPTH)) == "[" * MAX_DEPTH + "x" + "]" * MAX_DEPTH
    with pytest.raises(TemplateError, match="nested more than 100 levels"):
        go_text(deep(MAX_DEPTH + 1))
    with pytest.raises(TemplateError, match="nested too deeply"):
        go_json(deep(100_000))


@pytest.mark.parametrize(
    ("text", "data"), [("é", b"\xc3\xa9"), ("\udcff", b"\xff"), ("\ud800", b"\xed\xa0\x80")]
)
def test_any_text_has_a_length_in_bytes(text: str, data: bytes) -> None:
    assert to_bytes(text) == data
