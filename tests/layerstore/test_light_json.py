"""JSON is read and written as by the module json, whose import most commands do without."""

from __future__ import annotations

import json

import pytest

from layerstore.light_json import Reader, dumps

VALUES = [
    None,
    True,
    -5,
    2.5e300,
    "",
    'a"\\\n\x00é\u2028\udc80',
    [],
    {},
    [1, [2, {"a": None}], (3, "4")],
    {"a": {"b": [1.5, False]}, "c": "d", "é": 1},
]
TEXTS = [
    *("1", ' \t\n\r{"a": [1, 2.0, "x\\u00e9"]} \n', '"\\ud83d\\ude00"', "[]", "-0", "1E400"),
    # What is wrong.
    *("", " ", "[1", "[1] 2", '{"a"}', "nul", "\ufeff1", "'a'", '"\x01"', "\u00a01", "[1]\x00"),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_are_written_as_json_does(value: object) -> None:
    assert dumps(value) == json.dumps(value)
    assert dumps(value, ascii_only=False, compact=True) == json.dumps(
        value, ensure_ascii=False, separators=(",", ":")
    )


def test_what_is_no_json_is_not_written() -> None:
    for wrong in ([b"bytes"], {(1,): 2}, object()):
        with pytest.raises(TypeError) as ours:
            dumps(wrong)
        with pytest.raises(TypeError) as theirs:
            json.dumps(wrong)
        assert str(ours.value) == str(theirs.value)
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        dumps(circle)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
@pytest.mark.parametrize("encoded", [False, True])
def test_texts_are_read_as_json_does(text: str, encoded: bool) -> None:
    def outcome(read: object) -> object:
        assert callable(read)
        try:
            return read(text.encode() if encoded else text)
        except ValueError as error:
            return type(error), str(error)

    reader = Reader(parse_constant=str)
    assert outcome(reader.read) == outcome(lambda given: json.loads(given, parse_constant=str))


def test_numbers_and_constants_are_made_by_functions() -> None:
    reader = Reader(lambda name: name.lower(), lambda text: f"{text}f", lambda text: f"{text}i")
    assert reader.read("[1, -2, 1.5, NaN, -Infinity]") == ["1i", "-2i", "1.5f", "nan", "-infinity"]


def test_the_error_of_a_function_is_raised() -> None:
    def refuse(text: str) -> object:
        raise ValueError(f"not {text}")

    with pytest.raises(ValueError, match="not NaN"):
        Reader(refuse).read("[NaN]")


def test_deep_nesting_is_an_error() -> None:
    with pytest.raises(RecursionError):
        Reader(str).read("[" * 200_000 + "]" * 200_000)
