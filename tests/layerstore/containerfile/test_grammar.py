"""What the library of the grammar is used for: words, heredocs and ignore patterns."""

from __future__ import annotations

import pytest

from layerstore.containerfile.errors import ContainerfileError, Place
from layerstore.containerfile.grammar import IgnoreMatcher, Words, heredoc_name, parse_ast
from layerstore.errors import StoreError

AT = Place("f", 1, 1, "RUN")


def test_an_ast_has_names_flags_words_and_places() -> None:
    ast = parse_ast("# escape=`\nfrom --platform=p x\nenv a=b c='d e'\nCMD [\"x\"]", "f")
    assert ast.escape == "`"
    assert [(n.name, n.flags, n.words, n.json, n.at.line) for n in ast.nodes] == [
        ("FROM", ["--platform=p"], ["x"], False, 2),
        ("ENV", [], ["a", "b", "=", "c", "'d e'", "="], False, 3),
        ("CMD", [], ["x"], True, 4),
    ]


def test_one_word_and_several() -> None:
    words = Words("\\", {"a": "1 2", "b": ""})
    assert words.word("x$a-${b:-c}'$a'", AT) == "x1 2-c$a"
    assert words.words("x$a y", AT) == ["x1", "2", "y"]


def test_words_with_their_quotes() -> None:
    words = Words("\\", {"a": "1"}, quotes=True)
    assert words.word("'$a' \"$a\"\n", AT) == "'1' \"1\"\n"
    # As BuildKit has it in a heredoc.
    assert words.word("\\\n", AT) == "\n"
    assert words.word("\\\\\n", AT) == "\\\n"
    assert words.word("\\$\n", AT) == "$\n"


def test_a_fault_in_a_word_has_a_place() -> None:
    with pytest.raises(ContainerfileError, match=r"f:1: failed to process .*missing"):
        Words("\\", {}).word("${a", AT)
    with pytest.raises(ContainerfileError, match="f:1: "):
        Words("\\", {}).word("${a:-" * 5_000, AT)


@pytest.mark.parametrize(
    ("word", "name"), [("<<E", "E"), ("3<<-'a b'", "a b"), ("<", None), ("a", None), ("<<", None)]
)
def test_heredoc_name(word: str, name: str | None) -> None:
    assert heredoc_name(word) == name


def test_ignore_patterns() -> None:
    matcher = IgnoreMatcher(["# no", "", "*.o", "d", "!d/keep"], ".dockerignore")
    assert not matcher.empty
    assert matcher.ignores("a.o")
    assert matcher.ignores("d/x")
    assert not matcher.ignores("d/keep")
    assert matcher.may_keep_beneath("d")
    assert not matcher.may_keep_beneath("e")
    with pytest.raises(StoreError, match=r"\.dockerignore: Invalid ignore pattern"):
        IgnoreMatcher(["[a"], ".dockerignore")
