"""What the library of the grammar is used for: words, heredocs and ignore patterns."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore.containerfile import grammar
from layerstore.containerfile.errors import ContainerfileError, Location
from layerstore.containerfile.grammar import Words, heredoc_name, parse_ast
from tests.helpers.mounts import DEADLINE

AT = Location("f", 1, 1, "RUN")


def test_an_ast_has_names_flags_words_and_places() -> None:
    ast = parse_ast("# escape=`\nfrom --platform=p x\nenv a=b c='d e'\nCMD [\"x\"]", "f")
    assert ast.escape == "`"
    assert [(n.name, n.flags, n.words, n.json, n.at.line) for n in ast.nodes] == [
        ("FROM", ["--platform=p"], ["x"], False, 2),
        ("ENV", [], ["a", "b", "=", "c", "'d e'", "="], False, 3),
        ("CMD", [], ["x"], True, 4),
    ]


class Kept(dict[str, str]):
    """A memo in memory."""

    def find(self, key: str) -> str | None:
        return self.get(key)

    def keep(self, key: str, parsed: str) -> None:
        self[key] = parsed


@pytest.mark.parametrize(
    "text",
    [
        "# escape=`\nfrom --platform=p x\nenv a=b c='d e'\nCMD [\"x\"]",
        "FROM x\n\nRUN <<-A <<'B'\n\tone\nA\n two $x\nB\nCOPY <<C /c\n\u00e9\nC\n",
        'FROM x\nRUN a \\\n\n  b\nCMD ["\U0001f600", "\\udc80"]\nMAINTAINER \x01\u2028\n',
    ],
)
def test_what_is_remembered_is_what_is_parsed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memo = Kept()
    parsed = parse_ast(text, "f")
    assert parse_ast(text, "f", memo) == parsed and len(memo) == 1
    monkeypatch.setattr(grammar, "parse_anew", None)
    assert parse_ast(text, "f", memo) == parsed
    assert {node.at.file for node in parse_ast(text, "another", memo).nodes} == {"another"}
    assert all(type(node) is grammar.Node for node in parsed.nodes)


def test_a_fault_is_not_remembered() -> None:
    memo = Kept()
    for _ in range(2):
        with pytest.raises(ContainerfileError):
            parse_ast("FROM x\nNONSENSE\n", "f", memo)
    assert not memo


def test_what_is_remembered_is_of_this_version() -> None:
    """With a change of the library or of what parses, change VERSION."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).resolve().parents[3] / "setup.cfg")
    name, _, version = grammar.VERSION.partition(", ")[2].partition(" ")
    assert f"{name} == {version}" in setup["options"]["install_requires"].splitlines()
    memo = Kept()
    parse_ast('FROM --a=b x\nRUN <<-E\n\t$y\nE\nENV a=b\n\nCMD ["\\udc80"]\n', "f", memo)
    key = "88e8b044e308922226ab22f547c33a8c2a34b26ab262be89a716867a543ad926"
    assert memo == {
        key: '[[[[1, 1, "FROM --a=b x"], "FROM", ["--a=b"], ["x"], false, []], '
        '[[2, 4, "RUN <<-E"], "RUN", [], ["<<-E"], false, [["E", "$y\\n", true, "\\t$y\\n"]]], '
        '[[5, 5, "ENV a=b"], "ENV", [], ["a", "b", "="], false, []], '
        '[[7, 7, "CMD [\\"\\\\udc80\\"]"], "CMD", [], ["\\ufffd"], true, []]], "\\\\", []]'
    }


@pytest.mark.parametrize(
    "text",
    ["", "a", "a b  c", " a ", "/x:/y", "a=b", "\u00e9 x", "a\tb", "a\x1cb", "a\x85b"],
)
def test_a_word_without_special_characters_is_not_lexed(text: str) -> None:
    words = Words("\\", {})
    assert words.word(text, AT) == words.lexer().process_word(text)
    assert words.words(text, AT) == words.lexer().process_words(text)


def test_the_parser_is_imported_only_for_a_file_that_is_new() -> None:
    code = """
import sys
from layerstore.containerfile.grammar import Words, heredoc_name
at = None
assert Words("\\\\", {}).word("a", at) == "a" and heredoc_name("a") is None
assert not any(name.startswith("e2b") for name in sys.modules)
assert Words("\\\\", {"a": "1"}).word("$a", at) == "1"
assert "dataclasses" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=DEADLINE)


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


@pytest.mark.parametrize(
    ("length", "text"),
    [(4 << 20, "$A$A"), (1 << 20, "$A" * 5), (5_000, "${A//x/$A}"), (200, "${A//x/${A//x/$A}}")],
)
def test_variables_do_not_grow_without_bound(length: int, text: str) -> None:
    """Each line of ENV A=$A$A doubles the value, and a replacement may square it."""
    words = Words("\\", {"A": "x" * length})
    for expand in (words.word, words.words):
        with pytest.raises(ContainerfileError, match="may expand to more than 4,194,304 char"):
            expand(text, AT)


def test_usual_variables_are_not_bounded() -> None:
    values = {"A": "x" * 100, "URL": "https://host//path" * 20}
    words = Words("\\", values)
    assert words.word("${A//x/$A}", AT) == "x" * 10_000
    assert words.word("${URL//\\//-}" + "$A" * 5, AT).endswith("x" * 500)
    assert len(Words("\\", {"A": "x"}).word("y" * (5 << 20) + "$A", AT)) == (5 << 20) + 1


def test_patterns_of_variables_do_not_take_long() -> None:
    words = Words("\\", {"A": "a" * 750, "STARS": "*a*a*a*a*a*", "V": "1.2.3-rc4"})
    for text in ("${A#*a*a*a*a*b}", "${A%%*a*a*a*a*b}", "${A/*a*a*a*a*b/x}", "${A#${STARS}b}"):
        with pytest.raises(ContainerfileError, match="a pattern for A has too many stars"):
            words.word(text, AT)
    assert words.word("${V#*.*.} ${V%-*} ${V//./_}", AT) == "3-rc4 1.2.3 1_2_3-rc4"
