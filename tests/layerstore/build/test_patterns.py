"""Patterns of ignore files: docker's cases, and those that once took for ever."""

from __future__ import annotations

import pytest

from layerstore.build.match import BadPattern, matcher
from layerstore.build.patterns import Automaton, Patterns
from layerstore.errors import StoreError


def test_ignore_patterns() -> None:
    matcher = Patterns(["# no", "", "*.o", "d", "!d/keep"], ".dockerignore")
    assert not matcher.empty
    assert matcher.ignores("a.o")
    assert matcher.ignores("d/x")
    assert not matcher.ignores("d/keep")
    assert matcher.may_keep_beneath("d")
    assert not matcher.may_keep_beneath("e")
    with pytest.raises(StoreError, match=r"\.dockerignore: Invalid ignore pattern"):
        Patterns(["[a"], ".dockerignore")
    with pytest.raises(StoreError, match=r"f: Invalid ignore pattern '! ': illegal exclusion"):
        Patterns(["! "], "f")
    assert Patterns([], "f").empty


# Of moby/patternmatcher, TestMatches().
@pytest.mark.parametrize(
    ("pattern", "path", "matched"),
    [
        ("**", "file", True),
        ("**", "dir/file", True),
        ("**/", "file", True),
        ("**/**", "dir/file", True),
        ("dir/**", "dir/file", True),
        ("dir/**", "dir/dir2/file", True),
        ("**/dir", "dir/file", True),
        ("**/dir2/*", "dir/dir2/file", True),
        ("**/dir2/**", "dir/dir2/dir2/file", True),
        ("**file", "dir/file", True),
        ("**/file", "dir/dir/file", True),
        ("**/file*", "dir/dir/file.txt", True),
        ("**/file*txt*", "dir/dir/file.txt.bak", True),
        ("**/**/*.txt", "dir/dir/file.txt", True),
        ("**/**/*.txt2", "dir/dir/file.txt", False),
        ("a**/*.txt", "a/file.txt", True),
        ("a**/*.txt", "a/dir/dir/file.txt", True),
        ("a[b-d]e", "abe", True),
        ("a[b-d]e", "aee", False),
        ("a[^b-d]e", "aze", True),
        ("abc.def", "abcZdef", False),
        ("abc?def", "abcZdef", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("**/foo/bar", "foo/bar", True),
        ("abc/**", "abc", False),
        ("abc/**", "abc/def/ghi", True),
        ("**/.foo", "bar.foo", False),
        ("*c", "ab/c", False),
        ("a/b*c", "a/bxc/d", True),
        ("[a-z]/**/[!-~]", "q/x/y/z", True),
    ],
)
def test_what_a_pattern_matches(pattern: str, path: str, matched: bool) -> None:
    assert Patterns([pattern], "f").ignores(path) is matched


@pytest.mark.parametrize("pattern", ["[", "[a", "[]", "[a-]", "a\\", "[z-a]", "[^"])
def test_a_malformed_pattern(pattern: str) -> None:
    with pytest.raises(BadPattern):
        Automaton(pattern)


@pytest.mark.parametrize(
    "pattern", ["a*" * 60 + "b", "**/" * 40 + "a*" * 20 + "b", "*[a]" * 60 + "b", "**a*" * 40 + "b"]
)
def test_no_pattern_takes_long(pattern: str) -> None:
    """A stranger may have written both; a regular expression would take years."""
    path = "/".join(["a" * 250] * 4)
    assert not Automaton(pattern).matches(path)
    assert Automaton(pattern[:-1] + "a*").matches("a" * 250)
    if "**" not in pattern:
        assert not matcher(pattern)("a" * 250)
        assert matcher(pattern[:-1])("a" * 250)
