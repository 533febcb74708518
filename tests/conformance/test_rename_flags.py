"""renameat2(2): RENAME_NOREPLACE, RENAME_EXCHANGE and what their mixes give."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.conformance.cases import absent, names, refused, tree
from tests.conformance.tree import directory, file, symlink
from tests.helpers.calls import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, renameat2

KINDS = (
    file("file", b"1"),
    file("file2", b"2"),
    symlink("symlink", "1"),
    symlink("symlink2", "2"),
    directory("empty"),
    directory("empty2"),
    file("full/inside", b"1"),
    file("full/sub/leaf", b"1"),
    file("full2/inside", b"2"),
    file("full2/sub/leaf", b"2"),
    directory("elsewhere"),
)
NAMES = ("file", "symlink", "empty", "full")


def describe(path: Path) -> object:
    """Return what tells one of `KINDS` from another, to its depths."""
    if path.is_symlink():
        return os.readlink(path)
    if path.is_dir():
        return {name: describe(path / name) for name in names(path)}
    return path.read_bytes()


# -- NOREPLACE --


@tree(*KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_noreplace_to_a_free_name(root: Path, name: str) -> None:
    """NOREPLACE to a free name is a rename."""
    before = describe(root / name)
    renameat2(root / name, root / "elsewhere" / "new", RENAME_NOREPLACE)
    assert absent(root / name)
    assert describe(root / "elsewhere" / "new") == before


@tree(*KINDS)
@pytest.mark.parametrize("target", ["file2", "symlink2", "empty2", "full2"])
@pytest.mark.parametrize("source", ["file", "full"])
def test_noreplace_to_a_taken_name(root: Path, source: str, target: str) -> None:
    """NOREPLACE refuses every taken name and changes nothing."""
    before = describe(root / source), describe(root / target)
    with refused(errno.EEXIST):
        renameat2(root / source, root / target, RENAME_NOREPLACE)
    assert (describe(root / source), describe(root / target)) == before


@tree(*KINDS)
def test_noreplace_to_a_deleted_name(root: Path) -> None:
    """A name that was deleted is free."""
    os.unlink(root / "file2")
    renameat2(root / "file", root / "file2", RENAME_NOREPLACE)
    assert (root / "file2").read_bytes() == b"1"
    assert absent(root / "file")


@tree(*KINDS)
def test_noreplace_onto_itself(root: Path) -> None:
    """A name is taken by itself."""
    with refused(errno.EEXIST):
        renameat2(root / "file", root / "file", RENAME_NOREPLACE)


# -- EXCHANGE --


@tree(*KINDS)
@pytest.mark.parametrize("second", [f"{name}2" for name in NAMES])
@pytest.mark.parametrize("first", NAMES)
def test_exchange(root: Path, first: str, second: str) -> None:
    """Any two objects trade names, whatever kind they are and whatever they hold."""
    one, two = describe(root / first), describe(root / second)
    inodes = os.lstat(root / first).st_ino, os.lstat(root / second).st_ino
    renameat2(root / first, root / second, RENAME_EXCHANGE)
    assert (describe(root / second), describe(root / first)) == (one, two)
    assert (os.lstat(root / second).st_ino, os.lstat(root / first).st_ino) == inodes


@tree(*KINDS)
@pytest.mark.parametrize("first", NAMES)
def test_exchange_twice(root: Path, first: str) -> None:
    """Exchanged twice, all is as it was."""
    before = describe(root)
    renameat2(root / first, root / "full2", RENAME_EXCHANGE)
    renameat2(root / first, root / "full2", RENAME_EXCHANGE)
    assert describe(root) == before


@tree(*KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_exchange_between_directories(root: Path, name: str) -> None:
    """Objects in different directories trade places."""
    one, two = describe(root / name), describe(root / "full2" / "sub")
    renameat2(root / name, root / "full2" / "sub", RENAME_EXCHANGE)
    assert describe(root / "full2" / "sub") == one
    assert describe(root / name) == two


@tree(*KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_exchange_with_something_new(root: Path, name: str) -> None:
    """An object of the tree trades names with one just made; then both can be removed."""
    os.mkdir(root / "new")
    (root / "new" / "n").write_bytes(b"n")
    before = describe(root / name)
    renameat2(root / name, root / "new", RENAME_EXCHANGE)
    assert describe(root / "new") == before
    assert describe(root / name) == {"n": b"n"}
    os.unlink(root / name / "n")
    os.rmdir(root / name)
    assert absent(root / name)


@tree(*KINDS)
def test_exchange_then_change_the_children(root: Path) -> None:
    """After directories traded names, changes in each stay its own."""
    renameat2(root / "full", root / "full2", RENAME_EXCHANGE)
    (root / "full" / "sub" / "leaf").write_bytes(b"second")
    os.unlink(root / "full2" / "inside")
    assert describe(root / "full") == {"inside": b"2", "sub": {"leaf": b"second"}}
    assert describe(root / "full2") == {"sub": {"leaf": b"1"}}


@tree(*KINDS)
def test_exchange_with_what_is_absent(root: Path) -> None:
    """EXCHANGE needs both names."""
    with refused(errno.ENOENT):
        renameat2(root / "file", root / "none", RENAME_EXCHANGE)
    with refused(errno.ENOENT):
        renameat2(root / "none", root / "file", RENAME_EXCHANGE)
    assert (root / "file").read_bytes() == b"1"


@tree(*KINDS)
def test_exchange_with_a_deleted_name(root: Path) -> None:
    """A deleted name has nothing to give."""
    os.unlink(root / "file2")
    with refused(errno.ENOENT):
        renameat2(root / "file", root / "file2", RENAME_EXCHANGE)


@tree(*KINDS)
def test_exchange_with_an_ancestor(root: Path) -> None:
    """A directory cannot trade places with what lies in it, either way round."""
    with refused(errno.EINVAL):
        renameat2(root / "full", root / "full" / "sub", RENAME_EXCHANGE)
    with refused(errno.EINVAL):
        renameat2(root / "full" / "sub", root / "full", RENAME_EXCHANGE)
    assert describe(root / "full") == {"inside": b"1", "sub": {"leaf": b"1"}}


@tree(*KINDS)
def test_contradicting_flags(root: Path) -> None:
    """NOREPLACE with EXCHANGE, or unknown flags, are EINVAL."""
    with refused(errno.EINVAL):
        renameat2(root / "file", root / "file2", RENAME_NOREPLACE | RENAME_EXCHANGE)
    with refused(errno.EINVAL):
        renameat2(root / "file", root / "file2", 1 << 10)


@tree(*KINDS)
def test_leave_a_whiteout(root: Path) -> None:
    """RENAME_WHITEOUT is for the layers beneath; kernel overlayfs itself refuses it."""
    with refused(errno.EINVAL):
        renameat2(root / "file", root / "new", RENAME_WHITEOUT | RENAME_EXCHANGE)
    assert (root / "file").read_bytes() == b"1"
