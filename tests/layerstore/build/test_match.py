"""Wildcards; the cases are those of Go's `path/filepath` tests."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerstore.build.match import BadPattern, has_wildcards, matcher


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "abc", True),
        ("a*b*c*d*e*", "axbxcxdxe", True),
        ("a*b*c*d*e*", "axbxcxdxexxx", True),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^b-d]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("[a-ζ]*", "\u03b1", True),
        ("*[a-ζ]", "A", False),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-]", "x", True),
        ("[x\\-]", "-", True),
        ("[x\\-]", "z", False),
        ("[\\-x]", "a", False),
        ("*x", "xxx", True),
        ("[b-a]", "a", False),
        ("[^b-a]", "a", True),
        ("a\nb*", "a\nbc", True),
        ("a.c", "abc", False),
    ],
)
def test_match(pattern: str, name: str, matches: bool) -> None:
    assert matcher(pattern)(name) is matches


@pytest.mark.parametrize(
    "pattern", ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "a\\", "[a-b-c]", "[a-]"]
)
def test_a_pattern_that_is_not_well_formed_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        matcher(pattern)


@pytest.mark.parametrize(
    ("path", "has"), [("a", False), ("a*", True), ("a\\*", False), ("a\\\\*", True), ("[", True)]
)
def test_has_wildcards(path: str, has: bool) -> None:
    assert has_wildcards(path) is has


def test_many_stars_are_quick() -> None:
    assert not matcher("*" * 200 + "b")("a" * 5_000)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab*?[]^-\\.", max_size=12), st.text(alphabet="ab-]", max_size=8))
def test_any_pattern_is_matched_or_refused(pattern: str, name: str) -> None:
    try:
        matcher(pattern)(name)
    except BadPattern:
        pass
