"""The prose of the house: words that CONTRIBUTING.md asks not to use."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    source
    for folder in ("unionfs", "layerstore", "mount_tools", "benchmarks", "tests")
    for source in (TOP / folder).rglob("*.py")
    if source != Path(__file__).resolve()
)

# A user is "they" or "the user"; what is obscure has a plain word.  CONTRIBUTING.md
# says what to write instead.
AVOIDED = re.compile(
    r"\b(?:"
    r"he|him|his|whom|whomever|whoever|whatsoever|wherein|thereof|lest"
    r"|(?:can|cannot|can't|could|to) be had|told of|for who holds|who holds"
    r"|has had its day|is well"
    r")\b",
    re.IGNORECASE,
)


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments and strings of a module, each with the line it begins on."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string


def avoided(source: str) -> Iterator[tuple[int, str]]:
    """Yield the avoided words in the prose of a module, each with its line."""
    if AVOIDED.search(source):  # most modules need not be taken apart
        for line, text in prose(source):
            for match in AVOIDED.finditer(text):
                yield line, match.group()


def test_modules_are_written_in_plain_words() -> None:
    found = [
        f"{module.relative_to(TOP)}:{line}: {word}"
        for module in SOURCES
        for line, word in avoided(module.read_text())
    ]
    assert not found, "see the word list in CONTRIBUTING.md"


def test_an_avoided_word_is_found_in_prose_and_not_in_code() -> None:
    assert not list(avoided("him = 1\n"))
    assert list(avoided('him = 1  # what he said\nx = "whoever"\n')) == [(1, "he"), (2, "whoever")]
