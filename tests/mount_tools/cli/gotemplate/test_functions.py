"""What a template can call, and what happens where the arguments do not fit."""

from __future__ import annotations

import pytest

from mount_tools.cli.errors import TemplateError
from mount_tools.cli.gotemplate.functions import FUNCTIONS, HEADER_FUNCTIONS
from mount_tools.cli.gotemplate.values import Labels, Value


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("title", ("ab cd",), "Ab Cd"),
        ("pad", ("x", 1, 2), " x  "),
        ("pad", ("", 1, 2), ""),
        ("truncate", ("layer", 2), "la"),
        ("split", ("a/b", "/"), ["a", "b"]),
        ("join", (["a", "b"], "/"), "a/b"),
        ("len", ("é",), 2),
        ("index", ({"a": [1, 2]}, "a", 1), 2),
        ("index", ("hé", 1), 0xC3),
        ("index", (Labels(a="b"), "c"), ""),
        ("slice", ("hello", 1, 3), "el"),
        ("slice", (["a", "b"], 1), ["b"]),
        ("slice", ("é", 0, 1), "\udcc3"),
        ("eq", (None, None), True),
        ("ne", (None, 1), True),
        ("eq", ("a", "b", "a"), True),
        ("lt", (1, 2), True),
        ("not", ("",), True),
        ("print", ("a", 1, 2, "b"), "a1 2b"),
        ("println", ("a", 1), "a 1\n"),
    ],
)
def test_functions(name: str, arguments: tuple[Value, ...], result: Value) -> None:
    assert FUNCTIONS[name](*arguments) == result


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("upper", (), "wrong number of args for upper: want 1 got 0"),
        ("json", (1, 2), "wrong number of args for json: want 1 got 2"),
        ("printf", (), "wrong number of args for printf: want at least 1 got 0"),
        ("printf", (1,), "wrong type for value; expected string; got int"),
        ("upper", (1,), "wrong type for value; expected string; got int"),
        ("truncate", ("a", True), "wrong type for value; expected int; got bool"),
        ("truncate", (["a"], 1), "wrong type for value; expected string; got interface {}"),
        ("truncate", ("a", -1), "slice bounds out of range [:-1]"),
        ("pad", ("a", -1, 0), "strings: negative Repeat count"),
        ("pad", ("a", 0, 10**12), "cannot pad with more than 1000000 spaces"),
        ("join", ("a", ","), "wrong type for value; expected []string; got string"),
        ("len", (1,), "len of type int"),
        ("index", (["a"], -1), "index out of range: -1"),
        ("index", (["a"], 10**18), "index out of range: 1000000000000000000"),
        ("index", (["a"], True), "cannot index slice/array with type bool"),
        ("index", ({"a": 1}, 1), "value has type int; should be string"),
        ("index", (None, 1), "index of untyped nil"),
        ("index", (1, 1), "can't index item of type int"),
        ("slice", ("abc", 2, 1), "invalid slice index: 2 > 1"),
        ("slice", ("abc", 0, 4), "index out of range: 4"),
        ("slice", ("abc", -1), "index out of range: -1"),
        ("slice", ("abc", 0, 1, 2), "too many slice indexes: 3"),
        ("eq", (1, "1"), "incompatible types for comparison"),
        ("eq", (1, True), "incompatible types for comparison"),
        ("eq", ([], []), "invalid type for comparison"),
        ("eq", (1,), "missing argument for comparison"),
        ("lt", (True, False), "invalid type for comparison"),
    ],
)
def test_what_does_not_fit(name: str, arguments: tuple[Value, ...], complaint: str) -> None:
    with pytest.raises(TemplateError) as raised:
        FUNCTIONS[name].check(name, arguments)
        FUNCTIONS[name](*arguments)
    assert str(raised.value) == complaint


def test_in_a_heading_functions_that_change_text_do_not() -> None:
    assert HEADER_FUNCTIONS["truncate"]("IMAGE ID", 2) == "IMAGE ID"
    assert HEADER_FUNCTIONS["pad"]("IMAGE ID", 1, 0) == " IMAGE ID"
