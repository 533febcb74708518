"""The prose of the house: words that CONTRIBUTING.md asks not to use, and commit subjects."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("module", SOURCES, ids=lambda m: str(m.relative_to(TOP)))
def test_module_is_written_in_plain_words(module: Path) -> None:
    found = [
        f"{line}: {match.group()}"
        for line, text in prose(module.read_text())
        for match in AVOIDED.finditer(text)
    ]
    assert not found, f"{module.relative_to(TOP)}: see the word list in CONTRIBUTING.md"
