"""Words, quotes and escapes of `-o`."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mount_tools.mount.option_grammar import (
    OptionError,
    Word,
    escaped,
    shortened,
    split_layers,
    unescaped,
    words,
)

# Everything argv can hold: no NUL, and undecodable bytes as lone surrogates.
texts = st.text(st.characters(exclude_characters="\0", max_codepoint=0x2FFF), max_size=20) | (
    st.text(alphabet=',:\\"=a \n\udcff', max_size=12)
)
paths = texts.filter(bool)


@given(st.lists(texts, min_size=1, max_size=6))
def test_escaped_values_survive(values: list[str]) -> None:
    # The quote too: a value that begins with one would be a quoted value.
    text = ",".join("name=" + escaped(value, special=',"\\') for value in values)
    assert [unescaped(word.value or "") for word in words(text)] == values


@given(st.lists(texts, min_size=1, max_size=6))
def test_quoted_values_survive(values: list[str]) -> None:
    text = ",".join('name="' + escaped(value, special='"\\') + '"' for value in values)
    assert [unescaped(word.value or "") for word in words(text)] == values


@given(st.lists(paths, min_size=1, max_size=8), st.lists(paths, max_size=4))
def test_layers_survive(layers: list[str], data: list[str]) -> None:
    text = ":".join(escaped(path, special=":\\") for path in layers)
    text += "".join("::" + escaped(path, special=":\\") for path in data)
    assert split_layers(text) == (layers, data)


@given(texts)
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(OptionError):
        for word in words(text):
            split_layers(word.value or "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (",,", []),
        ("ro", [Word("ro", None)]),
        ("rw,,timeout=1,", [Word("rw", None), Word("timeout", "1")]),
        ("a=b=c", [Word("a", "b=c")]),
        ("lowerdir+=/a", [Word("lowerdir+", "/a")]),
        (r"upperdir=/a\,b", [Word("upperdir", r"/a\,b")]),
        ('upperdir=/a"b,ro', [Word("upperdir", '/a"b'), Word("ro", None)]),
        (
            'context="u:r:t:s0:c1,c2",private',
            [Word("context", "u:r:t:s0:c1,c2"), Word("private", None)],
        ),
        ('a="",b', [Word("a", ""), Word("b", None)]),
        ("=x", [Word("", "x")]),
    ],
)
def test_words(text: str, expected: list[Word]) -> None:
    assert list(words(text)) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('context="a', "quote"),
        ('context="a"b', "quote"),
        ("lowerdir=/a\\", "backslash"),
        ('"', "quote"),
        ("fo\\o", "NAME=VALUE"),
    ],
)
def test_unfinished_words_are_refused(text: str, why: str) -> None:
    with pytest.raises(OptionError, match=why):
        list(words(text))


@pytest.mark.parametrize("text", ["", ":", "::", "a:", "a::", ":a", "::a", "a:::b", "a::b::"])
def test_empty_layers_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="empty layer"):
        split_layers(text)


def test_data_only_layers_come_last() -> None:
    assert split_layers("a:b::c::d") == (["a", "b"], ["c", "d"])
    with pytest.raises(OptionError, match="'c' follows data-only layers"):
        split_layers("a::b:c")


def test_long_text_is_cut_for_messages() -> None:
    assert shortened("x" * 60) == "x" * 60
    assert len(shortened("x" * 5000)) == 60


@given(st.lists(texts, max_size=6).map(",".join))
def test_words_are_the_same_beside_a_quoted_one(text: str) -> None:
    plain = text.replace('"', "").replace("\\", "")
    assert list(words(plain)) == list(words(f'{plain},a="q"'))[:-1]


@given(st.lists(paths.filter(lambda path: not set(path) & set(":\\")), min_size=1, max_size=6))
def test_layers_are_the_same_above_an_escaped_one(layers: list[str]) -> None:
    value = ":".join(layers)
    assert split_layers(value) == (layers, [])
    assert split_layers(f"{value}:a\\b") == ([*layers, "ab"], [])
