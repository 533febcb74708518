"""The grammar of Containerfiles; only this module uses e2b-dockerfile-utils.

The library is a port of BuildKit's parser and of its shell lexer.  This module turns all its
errors into ContainerfileErrors, and bounds what variables expand to: `ENV A=$A$A` doubles a
value with each line.  `parse` gives the instructions their types and checks them.

Source: buildkit `frontend/dockerfile/parser`, `shell`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from types import ModuleType

from layerstore.containerfile.errors import ContainerfileError, Location, UnknownInstruction
from layerstore.containerfile.flags import suggestion
from layerstore.containerfile.instructions import NAMES, Heredoc
from layerstore.errors import shown
from layerstore.light_json import Reader, dumps
from layerstore.oci.sha256 import sha256_hex
from unionfs.light_typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from e2b_dockerfile_utils.lexer import ShellLex
    from e2b_dockerfile_utils.syntax import DockerfileSyntaxError

LARGEST = 16 << 20  # bytes of a Containerfile
LONGEST_LINE = 65_535  # bytes, as in BuildKit
# The library would parse the content of such a heredoc as instructions.
_TRIGGER_HEREDOC = r"\s*ONBUILD\s+(?:RUN|COPY|ADD)\s.*<<"
_PATTERN = r"\$\{(\w+)(//|[#%/])"  # with //, each place where it is found is replaced
_TRIES = 10**8  # of the library's regular expression, for all stars of a pattern
_MOST = 4 << 20  # characters that the variables of a word may add
_HALF = "[\ud800-\udfff]"  # a lone surrogate, which is not a character

LIBRARY = "e2b_dockerfile_utils"
VERSION = "1, e2b-dockerfile-utils 0.1.1"
"""What `Memo` keeps is of this version of the library and of this module."""


class Memo(Protocol):
    """Remembers what a file parses to: a build that is cached needs no parser."""

    def find(self, key: str) -> str | None:
        """Return what was kept of `key`."""

    def keep(self, key: str, parsed: str) -> None:
        """Remember `parsed`."""


class Node(NamedTuple):
    """An instruction as parsed: its name in capitals, its flags, words and heredocs.

    `json` tells whether the words come from a JSON array.  ENV and LABEL have three words
    for each pair: name, value, and `=` or "".
    """

    at: Location
    name: str
    flags: list[str]
    words: list[str]
    json: bool
    heredocs: list[Heredoc]


class Ast(NamedTuple):
    """The content of a file; each of `warnings` is a line number and a text."""

    nodes: list[Node]
    escape: str
    warnings: list[tuple[int, str]]


def parse_ast(text: str, file: str, memo: Memo | None = None) -> Ast:
    """Split `text`, the content of `file`, into instructions; raises ContainerfileError."""
    if memo is None:
        return parse_anew(text, file)
    key = sha256_hex(f"{VERSION}\n{text}".encode())
    known = memo.find(key)
    if known is not None:
        return _decoded(known, file)
    ast = parse_anew(text, file)
    memo.keep(key, _encoded(ast))
    return ast


def _encoded(ast: Ast) -> str:
    """Return an Ast as JSON, without the name of the file."""
    nodes = [(node.at[1:], *node[1:]) for node in ast.nodes]
    return dumps((nodes, ast.escape, ast.warnings))


def _decoded(known: str, file: str) -> Ast:
    nodes, escape, warnings = Reader(float).read(known)
    return Ast(
        [
            Node(
                Location(file, *at),
                name,
                flags,
                words,
                is_json,
                [Heredoc(*doc) for doc in heredocs],
            )
            for at, name, flags, words, is_json, heredocs in nodes
        ],
        escape,
        [(line, text) for line, text in warnings],
    )


def parse_anew(text: str, file: str) -> Ast:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            raise ContainerfileError(
                Location(file, number, number, line),
                f"the line is longer than {LONGEST_LINE:,} characters",
            )
    if "\0" in text:
        number = text.count("\n", 0, text.index("\0")) + 1
        raise ContainerfileError(
            Location(file, number, number, lines[number - 1]), "the line has a NUL character"
        )
    _load_one_by_one()
    import re

    from e2b_dockerfile_utils.syntax import (
        DockerfileSyntaxError,
        chomp_heredoc_content,
        parse_dockerfile_ast,
    )

    half = re.compile(_HALF)
    try:
        ast = parse_dockerfile_ast(text)
    except DockerfileSyntaxError as error:
        raise _refusal(error, lines, file) from None
    except RecursionError:
        raise ContainerfileError(
            None, f"{shown(file)}: a JSON array is nested too deeply"
        ) from None
    nodes = [
        Node(
            Location(file, found.start_line, found.end_line, found.original),
            found.name,
            found.flags,
            [half.sub("\ufffd", word) for word in found.args] if found.json else found.args,
            found.json,
            [
                Heredoc(
                    doc.name,
                    chomp_heredoc_content(doc.content) if doc.chomp else doc.content,
                    doc.expand,
                    doc.content,
                )
                for doc in found.heredocs
            ],
        )
        for found in ast.instructions
    ]
    return Ast(nodes, ast.escape_token, [(note.line, note.message) for note in ast.warnings])


def _load_one_by_one() -> None:
    """Let the modules of the library be imported without each other.

    Its package imports all.  The parser needs dataclasses, which takes 8 ms; the lexer does not.
    """
    if LIBRARY not in sys.modules and (spec := PathFinder.find_spec(LIBRARY)) is not None:
        package = ModuleType(LIBRARY)
        package.__path__ = list(spec.submodule_search_locations or ())
        sys.modules[LIBRARY] = package


def _refusal(error: DockerfileSyntaxError, lines: Sequence[str], file: str) -> ContainerfileError:
    """Return the library's `error` as a ContainerfileError with the line."""
    number = min(error.line or 1, len(lines))
    at = Location(file, number, number, lines[number - 1])
    import re

    hint = ""
    if any(re.match(_TRIGGER_HEREDOC, line, re.IGNORECASE) for line in lines[: number - 1]):
        hint = " (a heredoc in ONBUILD is not supported)"
    name = (at.text.split() or [""])[0]
    if name.upper() not in NAMES and not name.startswith("#"):
        return UnknownInstruction(at, name, hint or suggestion(name, NAMES))
    return ContainerfileError(at, (str(error).partition(": ")[2] or str(error)) + hint)


def heredoc_name(word: str) -> str | None:
    """Return the name of the heredoc that `word` starts, None if it starts none."""
    if "<<" not in word:
        return None
    _load_one_by_one()
    from e2b_dockerfile_utils.syntax import parse_heredoc

    try:
        found = parse_heredoc(word)
    except (ValueError, RecursionError):
        return None
    return None if found is None else found.name


class Words:
    """Expands words with the variables `values`; an unset variable is "".

    `escape` is the escape character of the file.  Quotes and escapes are removed as in a
    shell; with `quotes`, quotes are kept, as in a heredoc.
    """

    def __init__(self, escape: str, values: Mapping[str, str], *, quotes: bool = False) -> None:
        self._escape = escape
        self._values = values
        self._quotes = quotes
        self._special = frozenset(f"$<\"'{escape}")

    def word(self, text: str, at: Location) -> str:
        """Return `text` as one word; raises ContainerfileError."""
        if self._special.isdisjoint(text):
            return text
        self._bound(text, at)
        try:
            return self.lexer().process_word(text)
        except (ValueError, RecursionError) as error:
            raise ContainerfileError(at, shown(str(error))) from None

    def words(self, text: str, at: Location) -> list[str]:
        """Return the words of `text`; one variable may expand to several words."""
        if self._special.isdisjoint(text) and text.isascii() and text.isprintable():
            return text.split()
        self._bound(text, at)
        try:
            return self.lexer().process_words(text)
        except (ValueError, RecursionError) as error:
            raise ContainerfileError(at, shown(str(error))) from None

    def _bound(self, text: str, at: Location) -> None:
        """Raise ContainerfileError if the variables in `text` may expand to too much."""
        count = text.count("$")
        if not count:
            return
        longest = max(map(len, self._values.values()), default=0)
        most = len(text) + count * longest
        if "{" in text:
            import re

            used = set(re.findall(r"\w+", text))
            stars = text.count("*") + sum(self._values.get(name, "").count("*") for name in used)
            for name, how in re.findall(_PATTERN, text):
                length = len(self._values.get(name, "")) + 1
                if how == "//":
                    most *= length
                if length**stars > _TRIES:
                    raise ContainerfileError(at, f"a pattern for {shown(name)} has too many stars")
        if most > len(text) + _MOST:
            raise ContainerfileError(
                at, f"its variables may expand to more than {_MOST:,} characters"
            )

    def lexer(self) -> ShellLex:
        """Return the lexer.  It is imported only for a word that may change."""
        _load_one_by_one()
        from e2b_dockerfile_utils.lexer import ShellLex

        return ShellLex(
            self._escape, skip_process_quotes=self._quotes, env=self._values, skip_unset_env=False
        )
