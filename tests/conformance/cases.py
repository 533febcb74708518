"""The vocabulary the cases are written in."""

from __future__ import annotations

import contextlib
import errno as errno_module
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from tests.conformance.tree import Node

Case = TypeVar("Case", bound=Callable[..., None])

_trees: dict[object, Sequence[Node]] = {}
_union_only: set[object] = set()


def tree(*nodes: Node) -> Callable[[Case], Case]:
    """Say what a case's directory holds; the case then runs in every placement of it."""

    def mark(case: Case) -> Case:
        _trees[case] = nodes
        return case

    return mark


def union_only(case: Case) -> Case:
    """Say that a case is about layers, of which a plain directory has none."""
    _union_only.add(case)
    return case


def tree_of(case: object) -> Sequence[Node]:
    return _trees.get(case, ())


def is_union_only(case: object) -> bool:
    return case in _union_only


@contextlib.contextmanager
def refused(code: int) -> Iterator[None]:
    """Expect the block to fail with this errno."""
    with pytest.raises(OSError) as caught:
        yield
    found = caught.value.errno
    assert found == code, f"{_name(found)} instead of {_name(code)}: {caught.value}"


def _name(code: int | None) -> str:
    return errno_module.errorcode.get(code or 0, str(code))


@contextlib.contextmanager
def opened(path: str | bytes | Path, flags: int, mode: int = 0o666) -> Iterator[int]:
    """Open as open(2) and close at the end."""
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def names(path: Path) -> set[str]:
    """Return the names of a directory; a name listed twice fails."""
    listed = os.listdir(path)
    assert len(set(listed)) == len(listed), f"a name is listed twice in {sorted(listed)}"
    return set(listed)


def absent(path: Path) -> bool:
    """Tell whether no name is there, in lookup and in the listing alike."""
    return not os.path.lexists(path) and path.name not in names(path.parent)


def mode_of(path: Path) -> int:
    """Return the permission bits, suid, sgid and sticky included."""
    return os.lstat(path).st_mode & 0o7777
