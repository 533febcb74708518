"""Values are printed as Go prints them."""

from __future__ import annotations

import pytest

from mount_tools.cli.gotemplate.functions import FUNCTIONS, Row, Value, go_json, go_text


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
    ],
)
def test_values_as_text(value: Value, text: str) -> None:
    assert go_text(value) == text


def test_json_is_compact_and_only_a_whole_row_is_escaped() -> None:
    assert go_json({"a": ["<none>", "é"], "b": None}) == '{"a":["<none>","é"],"b":null}'
    assert go_json(Row(Digest="<none>")) == '{"Digest":"\\u003cnone\\u003e"}'


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("title", ("ab cd",), "Ab Cd"),
        ("pad", ("x", 1, 2), " x  "),
        ("pad", ("", 1, 2), ""),
        ("truncate", ("hello", 2), "he"),
        ("split", ("a/b", "/"), ["a", "b"]),
        ("join", (["a", "b"], "/"), "a/b"),
        ("printf", ("%s-%05d|%-4s|%v %t%%", "a", 7, "b", ["x"], True), "a-00007|b   |[x] true%"),
        ("printf", ("%d", "a"), "%!d(a)"),
        ("printf", ("%s %s", "a"), "a %!s(MISSING)"),
        ("len", ("é",), 2),
        ("index", ({"a": [1, 2]}, "a", 1), 2),
        ("slice", ("hello", 1, 3), "el"),
        ("eq", ("a", "b", "a"), True),
        ("lt", (1, 2), True),
        ("not", ("",), True),
        ("print", ("a", 1, 2, "b"), "a1 2b"),
        ("println", ("a", 1), "a 1\n"),
    ],
)
def test_functions(name: str, arguments: tuple[Value, ...], result: Value) -> None:
    assert FUNCTIONS[name](*arguments) == result
