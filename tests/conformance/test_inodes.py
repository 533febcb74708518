"""st_ino, st_dev and st_nlink: unique, uniform and never changing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.cases import opened, tree
from tests.conformance.subjects import World
from tests.conformance.tree import directory, file, hard_link, special, symlink

KINDS = (
    file("f", b"data"),
    file("d/inside", b"inside"),
    directory("e"),
    symlink("l", "f"),
    special("p", stat.S_IFIFO | 0o600),
    special("c", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    file("one", b"1"),
    hard_link("two", "one"),
)
NAMES = ("f", "d", "e", "l", "p", "c", "one")
CHANGES: dict[str, Callable[[Path], object]] = {
    "chown": lambda path: os.lchown(path, 5, 6),
    "utimes": lambda path: os.utime(path, ns=(1, 2), follow_symlinks=False),
    "setxattr": lambda path: os.setxattr(path, "trusted.a", b"1", follow_symlinks=False),
}


def number(path: Path) -> tuple[int, int]:
    st = os.lstat(path)
    return st.st_dev, st.st_ino


@tree(*KINDS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", NAMES)
def test_number_is_stable_over_a_change(root: Path, name: str, change: str) -> None:
    """st_dev and st_ino stay when an object of any kind is changed (copied up)."""
    before = number(root / name)
    CHANGES[change](root / name)
    assert number(root / name) == before


@tree(*KINDS)
def test_number_is_stable_over_a_write(root: Path) -> None:
    """A file's number stays over open for writing, write, truncate and close."""
    before = number(root / "f")
    with opened(root / "f", os.O_RDWR) as fd:
        assert os.fstat(fd).st_ino == before[1]
        os.write(fd, b"x")
        os.ftruncate(fd, 0)
        assert os.fstat(fd).st_ino == before[1]
    assert number(root / "f") == before


@tree(*KINDS)
def test_number_of_a_directory_is_stable_over_changes_in_it(root: Path) -> None:
    """Creating, changing and removing entries leaves a directory's number."""
    before = number(root / "d")
    (root / "d" / "new").write_bytes(b"")
    (root / "d" / "inside").write_bytes(b"changed")
    os.unlink(root / "d" / "inside")
    assert number(root / "d") == before


@tree(*KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_number_is_stable_over_rename(root: Path, name: str) -> None:
    """The number goes with the object to its new name and back."""
    before = number(root / name)
    os.rename(root / name, root / "e2")
    assert number(root / "e2") == before
    os.rename(root / "e2", root / name)
    assert number(root / name) == before


@tree(*KINDS)
def test_number_is_stable_over_link(root: Path) -> None:
    """A new name changes no number, and unlinking the old one neither."""
    before = number(root / "f")
    os.link(root / "f", root / "g")
    assert number(root / "f") == number(root / "g") == before
    os.unlink(root / "f")
    assert number(root / "g") == before


@tree(*KINDS)
def test_numbers_are_unique(root: Path) -> None:
    """Two objects never share a number, whichever layer each is in; links do."""
    (root / "new").write_bytes(b"")
    os.mkdir(root / "new-dir")
    os.chmod(root / "f", 0o600)
    paths = [root, *(root / name for name in (*NAMES, "d/inside", "new", "new-dir"))]
    assert len({number(path) for path in paths}) == len(paths)
    assert number(root / "one") == number(root / "two")


@tree(*KINDS)
def test_a_remade_object_is_another(root: Path) -> None:
    """Held open, a deleted file keeps its number; the new one of its name has another."""
    with opened(root / "f", os.O_RDONLY) as fd:
        os.unlink(root / "f")
        (root / "f").write_bytes(b"")
        assert os.fstat(fd).st_ino != os.lstat(root / "f").st_ino


@tree(*KINDS)
def test_device_is_uniform(root: Path, world: World) -> None:
    """All objects of the mount are on one device, before and after copy-up."""
    expected = os.lstat(world.mount_point).st_dev
    os.chmod(root / "one", 0o600)
    found = {os.lstat(path).st_dev for path in (root, *root.rglob("*"))}
    assert found == {expected}


@tree(*KINDS)
def test_link_counts(root: Path) -> None:
    """Files count their names; a directory counts 2 or more, or 1 for `not counted`."""
    assert os.lstat(root / "f").st_nlink == 1
    assert os.lstat(root / "one").st_nlink == 2
    assert os.lstat(root / "l").st_nlink == 1
    assert os.lstat(root / "d").st_nlink >= 1
    os.link(root / "one", root / "three")
    os.chmod(root / "two", 0o600)
    assert {os.lstat(root / name).st_nlink for name in ("one", "two", "three")} == {3}


@tree(*KINDS)
def test_generation_of_listing_and_lookup(root: Path) -> None:
    """A name found, removed and found again under another kind gives the new object."""
    assert stat.S_ISREG(os.lstat(root / "f").st_mode)
    os.unlink(root / "f")
    os.mkdir(root / "f")
    assert stat.S_ISDIR(os.lstat(root / "f").st_mode)
    os.rmdir(root / "f")
    os.symlink("one", root / "f")
    assert stat.S_ISLNK(os.lstat(root / "f").st_mode)
    assert (root / "f").read_bytes() == b"1"
