"""How often `os` is asked for something, for tests of what an operation takes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import pytest

NAMES = (
    "stat",
    "lstat",
    "fstat",
    "open",
    "scandir",
    "listdir",
    "listxattr",
    "getxattr",
    "readlink",
)


def count_calls(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> Counter[str]:
    """Return how often `action` calls what `os` offers to look at files."""
    counted: Counter[str] = Counter()

    def wrap(name: str) -> None:
        original = getattr(os, name)

        def counting(*args: object, **keywords: object) -> object:
            counted[name] += 1
            return original(*args, **keywords)

        monkeypatch.setattr(os, name, counting)

    with monkeypatch.context() as patched:
        monkeypatch = patched
        for name in NAMES:
            wrap(name)
        action()
    return counted
