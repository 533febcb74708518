"""The grammar of Containerfiles; only this module uses e2b-dockerfile-utils.

The library is a port of BuildKit's parser, of its shell lexer and of moby's matcher for
ignore files.  This module turns all its errors into ContainerfileErrors; `parse` gives the
instructions their types and checks them.

Source: buildkit `frontend/dockerfile/parser`, `shell`; moby/patternmatcher.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from e2b_dockerfile_utils import (
    DockerfileSyntaxError,
    PatternMatcher,
    ShellLex,
    chomp_heredoc_content,
    parse_dockerfile_ast,
    parse_heredoc,
)

from layerstore.containerfile.errors import ContainerfileError, Place, UnknownInstruction
from layerstore.containerfile.flags import suggestion
from layerstore.containerfile.instructions import NAMES, Heredoc
from layerstore.errors import StoreError, shown
from unionfs.light_typing import NamedTuple

LARGEST = 16 << 20  # bytes of a Containerfile
LONGEST_LINE = 65_535  # bytes, as in BuildKit
# A lone surrogate, which is not a character.
_HALF = re.compile("[\ud800-\udfff]")
# The library would parse the content of such a heredoc as instructions.
_TRIGGER_HEREDOC = re.compile(r"\s*ONBUILD\s+(?:RUN|COPY|ADD)\s.*<<", re.IGNORECASE)


class Node(NamedTuple):
    """An instruction as parsed: its name in capitals, its flags, words and heredocs.

    `json` tells whether the words come from a JSON array.  ENV and LABEL have three words
    for each pair: name, value, and `=` or "".
    """

    at: Place
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


def parse_ast(text: str, file: str) -> Ast:
    """Split `text`, the content of `file`, into instructions; raises ContainerfileError."""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            raise ContainerfileError(
                Place(file, number, number, line),
                f"the line is longer than {LONGEST_LINE:,} characters",
            )
    if "\0" in text:
        number = text.count("\n", 0, text.index("\0")) + 1
        raise ContainerfileError(
            Place(file, number, number, lines[number - 1]), "the line has a NUL character"
        )
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
            Place(file, found.start_line, found.end_line, found.original),
            found.name,
            found.flags,
            [_HALF.sub("\ufffd", word) for word in found.args] if found.json else found.args,
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


def _refusal(error: DockerfileSyntaxError, lines: Sequence[str], file: str) -> ContainerfileError:
    """Return the library's `error` as a ContainerfileError with the line."""
    number = min(error.line or 1, len(lines))
    at = Place(file, number, number, lines[number - 1])
    hint = ""
    if any(map(_TRIGGER_HEREDOC.match, lines[: number - 1])):
        hint = " (a heredoc in ONBUILD is not supported)"
    name = (at.text.split() or [""])[0]
    if name.upper() not in NAMES and not name.startswith("#"):
        return UnknownInstruction(at, name, hint or suggestion(name, NAMES))
    return ContainerfileError(at, (str(error).partition(": ")[2] or str(error)) + hint)


def heredoc_name(word: str) -> str | None:
    """Return the name of the heredoc that `word` starts, None if it starts none."""
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
        self._lexer = ShellLex(escape, skip_process_quotes=quotes, env=values, skip_unset_env=False)

    def word(self, text: str, at: Place) -> str:
        """Return `text` as one word; raises ContainerfileError."""
        try:
            return self._lexer.process_word(text)
        except (ValueError, RecursionError) as error:
            raise ContainerfileError(at, shown(str(error))) from None

    def words(self, text: str, at: Place) -> list[str]:
        """Return the words of `text`; one variable may expand to several words."""
        try:
            return self._lexer.process_words(text)
        except (ValueError, RecursionError) as error:
            raise ContainerfileError(at, shown(str(error))) from None


class IgnoreMatcher:
    """The patterns of an ignore file; `file` names it in errors."""

    def __init__(self, patterns: Sequence[str], file: str) -> None:
        try:
            self._matcher = PatternMatcher(list(patterns))
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{shown(file)}: {shown(str(error))}") from None

    @property
    def empty(self) -> bool:
        """Whether there are no patterns."""
        return not self._matcher.patterns

    def ignores(self, path: str) -> bool:
        """Tell whether `path`, relative to the context and without a leading slash, is ignored."""
        return self._matcher.matches(path)

    def may_keep_beneath(self, directory: str) -> bool:
        """Tell whether a `!` pattern may match something beneath the ignored `directory`."""
        return self._matcher.may_match_under(directory)
