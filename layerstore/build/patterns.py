"""The patterns of ignore files, matched in a time that no pattern makes long.

`*` and `?` match no slash, `[a-z]` and `[^a-z]` match a class, and a backslash escapes.  `**`
matches any number of directories, and everything at the end of a pattern.  What matches a
directory matches all beneath it; the last pattern that matches decides, and those that begin
with `!` keep files.

A regular expression with several stars takes a time that grows with a power of the length of
a name, and a stranger may have written both.  So a pattern is an automaton: an integer has a bit
for each place in the pattern that the path may have reached.

Source: moby/patternmatcher, New(), Pattern.compile(), MatchesUsingParentResults(); Go
`path/filepath.Match`, `Clean`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence

from layerstore.build.match import BadPattern, read_class
from layerstore.errors import StoreError, shown

_WILD = frozenset("*?[\\")
_Test = Callable[[str], bool]


class Automaton:
    """One pattern: `matches(path)`.  Raises BadPattern if it is malformed."""

    def __init__(self, pattern: str) -> None:
        self._literals: dict[str, int] = {}
        self._tests: list[tuple[int, _Test]] = []  # a bit, and what its place accepts
        self._names = 0  # places with `*`: within a name
        self._folders = 0  # places before `**`, and with the next bit in its directories
        self._rest = 0  # places that match everything
        self._steps: dict[str, int] = {}  # by character: the places that accept it
        self._size = 0
        self._read(pattern)
        self._accepted = 1 << self._size

    def matches(self, path: str) -> bool:
        """Tell whether the whole of `path` matches."""
        names, folders, rest = self._names, self._folders, self._rest
        inside = folders << 1
        now = self._closed(1)
        for char in path:
            after = (now & self._accepting(char)) << 1 | now & (inside | rest)
            after |= (now & folders) << 1
            if char == "/":
                after |= (now & folders) << 2 | (now & inside) << 1
            else:
                after |= now & names
            if not after:
                return False
            now = self._closed(after)
        return bool(now & self._accepted)

    def _closed(self, places: int) -> int:
        """Return `places` with those that are reached without a character."""
        while True:
            more = places | (places & (self._names | self._rest)) << 1
            more |= (places & self._folders) << 2
            if more == places:
                return places
            places = more

    def _accepting(self, char: str) -> int:
        found = self._steps.get(char)
        if found is None:
            found = self._literals.get(char, 0)
            for bit, test in self._tests:
                found |= bit if test(char) else 0
            self._steps[char] = found
        return found

    def _read(self, pattern: str) -> None:
        at = 0
        while at < len(pattern):
            char, at = pattern[at], at + 1
            bit = 1 << self._size
            self._size += 1
            if char == "*":
                if pattern[at : at + 1] != "*":
                    self._names |= bit
                    continue
                at += 1 + (pattern[at + 1 : at + 2] == "/")
                if at >= len(pattern):
                    self._rest |= bit
                else:
                    self._folders |= bit
                    self._size += 1
            elif char == "?":
                self._tests.append((bit, lambda one: one != "/"))
            elif char == "[":
                test, at = read_class(pattern, at)
                self._tests.append((bit, test))
            else:
                if char == "\\":
                    if at >= len(pattern):
                        raise BadPattern(pattern)
                    char, at = pattern[at], at + 1
                self._literals[char] = self._literals.get(char, 0) | bit


class _Pattern:
    """A line of an ignore file; `keeps` tells whether it begins with `!`."""

    __slots__ = ("keeps", "matches", "names", "text")

    def __init__(self, text: str, *, keeps: bool) -> None:
        self.text = text
        self.keeps = keeps
        self.names = text.split("/")
        self.matches: _Test = text.__eq__ if _WILD.isdisjoint(text) else _wild(text)


def _wild(text: str) -> _Test:
    """Return what tells whether a path matches `text`, which has wildcards."""
    automaton = Automaton(text)
    end = text[2:]
    if text.startswith("**") and "]" not in end and _WILD.isdisjoint(end):
        # moby compares the end here, so `**foo` matches barfoo.  `**/foo` matches foo too.
        alone = end[1:] if end.startswith("/") else end
        return lambda path: path.endswith(end) or path == alone
    return automaton.matches


class Patterns:
    """The patterns of the ignore file `file`, which errors name."""

    def __init__(self, lines: Sequence[str], file: str) -> None:
        """Raises StoreError if a line is malformed."""
        self._patterns: list[_Pattern] = []
        for line in lines:
            text = line.strip()
            if line.startswith("#") or not text:
                continue
            keeps = text.startswith("!")
            text = text[keeps:].strip()
            wrong = f"{shown(file)}: Invalid ignore pattern '{shown(line)}'"
            if not text:
                raise StoreError(f"{wrong}: illegal exclusion pattern")
            text = posixpath.normpath(re.sub("/+", "/", text))
            if len(text) > 1:
                text = text.removeprefix("/")
            try:
                self._patterns.append(_Pattern(text, keeps=keeps))
            except BadPattern:
                raise StoreError(f"{wrong}: syntax error in pattern") from None

    @property
    def empty(self) -> bool:
        """Whether there are no patterns."""
        return not self._patterns

    def ignores(self, path: str) -> bool:
        """Tell whether `path`, relative to the context and without a leading slash, is ignored."""
        above: list[bool] = [False] * len(self._patterns)
        end = -1
        ignored = False
        while end != len(path):
            end = path.find("/", end + 1)
            end = len(path) if end < 0 else end
            here = path[:end]
            ignored = False
            for number, pattern in enumerate(self._patterns):
                # One that would change nothing is not asked, and does not count beneath.
                if above[number] or (pattern.keeps is ignored and pattern.matches(here)):
                    above[number] = True
                    ignored = not pattern.keeps
        return ignored

    def may_keep_beneath(self, directory: str) -> bool:
        """Tell whether a `!` pattern may match something beneath the ignored `directory`."""
        names = directory.split("/")
        return any(_may_reach(one.names, names) for one in self._patterns if one.keeps)


def _may_reach(pattern: Sequence[str], names: Sequence[str]) -> bool:
    for at, name in enumerate(names):
        if at >= len(pattern):
            return False
        wanted = pattern[at]
        if "**" in wanted:
            return True
        if wanted != name and _WILD.isdisjoint(wanted):
            return False
    return len(pattern) > len(names)
