"""rename(2) of directories, lower and merged ones above all, and what is in them then."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.conformance.cases import absent, names, opened, refused, tree
from tests.conformance.tree import directory, file, symlink

DEEP = (
    file("top/mid/leaf", b"leaf"),
    file("top/a", b"a"),
    file("top/b", b"b"),
    symlink("top/l", "a"),
    directory("top/empty"),
    directory("other"),
)


def assert_whole(top: Path) -> None:
    """Check that `top` holds what `DEEP` put there."""
    assert names(top) == {"mid", "a", "b", "l", "empty"}
    assert names(top / "mid") == {"leaf"}
    assert (top / "mid" / "leaf").read_bytes() == b"leaf"
    assert (top / "l").read_bytes() == b"a"
    assert names(top / "empty") == set()


@tree(*DEEP)
def test_children_after_a_rename(root: Path) -> None:
    """Everything in a renamed directory is found beneath its new name."""
    os.rename(root / "top", root / "new")
    assert absent(root / "top")
    assert_whole(root / "new")


@tree(*DEEP)
def test_children_are_changed_after_a_rename(root: Path) -> None:
    """Files in a renamed directory are written, removed and made as before."""
    os.rename(root / "top", root / "new")
    (root / "new" / "mid" / "leaf").write_bytes(b"changed")
    os.unlink(root / "new" / "a")
    (root / "new" / "c").write_bytes(b"c")
    assert names(root / "new") == {"mid", "b", "c", "l", "empty"}
    assert (root / "new" / "mid" / "leaf").read_bytes() == b"changed"


@tree(*DEEP)
def test_renamed_into_another_directory(root: Path) -> None:
    """A directory moves beneath another one with all it holds."""
    os.rename(root / "top", root / "other" / "top")
    assert absent(root / "top")
    assert_whole(root / "other" / "top")


@tree(*DEEP)
def test_renamed_and_back(root: Path) -> None:
    """A directory renamed away and back is whole."""
    os.rename(root / "top", root / "other" / "x")
    os.rename(root / "other" / "x", root / "top")
    assert_whole(root / "top")
    assert names(root) == {"top", "other"}


@tree(*DEEP)
def test_nested_renames_inner_first(root: Path) -> None:
    """A subdirectory renamed, then its parent: both are found under the new names."""
    os.rename(root / "top" / "mid", root / "top" / "middle")
    os.rename(root / "top", root / "new")
    assert (root / "new" / "middle" / "leaf").read_bytes() == b"leaf"
    assert absent(root / "new" / "mid")


@tree(*DEEP)
def test_nested_renames_outer_first(root: Path) -> None:
    """A directory renamed, then a subdirectory of it, out of it."""
    os.rename(root / "top", root / "new")
    os.rename(root / "new" / "mid", root / "other" / "mid")
    assert (root / "other" / "mid" / "leaf").read_bytes() == b"leaf"
    assert names(root / "new") == {"a", "b", "l", "empty"}


@tree(*DEEP)
def test_renamed_many_times(root: Path) -> None:
    """A chain of renames through names and parents loses nothing."""
    at = root / "top"
    for step in ("one", "other/two", "three", "other/four"):
        os.rename(at, root / step)
        at = root / step
    assert_whole(at)


@tree(*DEEP)
def test_two_directories_swap_names_by_three_renames(root: Path) -> None:
    """Two directories trade names by way of a third."""
    (root / "other" / "mine").write_bytes(b"mine")
    os.rename(root / "top", root / "tmp")
    os.rename(root / "other", root / "top")
    os.rename(root / "tmp", root / "other")
    assert names(root / "top") == {"mine"}
    assert_whole(root / "other")


@tree(*DEEP)
@pytest.mark.parametrize("inside", ["top/new", "top/mid/new", "top/empty/x"])
def test_rename_into_itself(root: Path, inside: str) -> None:
    """A directory cannot move beneath itself."""
    with refused(errno.EINVAL):
        os.rename(root / "top", root / inside)
    assert_whole(root / "top")


@tree(*DEEP)
def test_rename_over_an_ancestor(root: Path) -> None:
    """A directory cannot replace the one it lies in."""
    with refused(errno.ENOTEMPTY):
        os.rename(root / "top" / "mid", root / "top")
    assert_whole(root / "top")


@tree(*DEEP)
def test_make_and_fill_at_the_old_name(root: Path) -> None:
    """A directory made at the old name shares nothing with the one that was moved."""
    os.rename(root / "top", root / "moved")
    os.mkdir(root / "top")
    assert names(root / "top") == set()
    (root / "top" / "a").write_bytes(b"new a")
    assert (root / "moved" / "a").read_bytes() == b"a"
    assert names(root / "top") == {"a"}


@tree(*DEEP)
def test_rename_over_a_remade_directory(root: Path) -> None:
    """A full directory moves over an empty one that replaced a deleted one."""
    os.rmdir(root / "other")
    os.mkdir(root / "other")
    os.rename(root / "top", root / "other")
    assert_whole(root / "other")


@tree(*DEEP, file("victim/x", b"victim"))
def test_rename_over_a_directory_that_was_emptied(root: Path) -> None:
    """What was deleted in the replaced directory does not shine through."""
    os.unlink(root / "victim" / "x")
    os.rename(root / "top", root / "victim")
    assert_whole(root / "victim")


@tree(*DEEP)
def test_remove_a_renamed_directory(root: Path) -> None:
    """A renamed directory is emptied and removed; neither name comes back."""
    os.rename(root / "top", root / "new")
    for name in ("mid/leaf", "a", "b", "l"):
        os.unlink(root / "new" / name)
    os.rmdir(root / "new" / "mid")
    os.rmdir(root / "new" / "empty")
    os.rmdir(root / "new")
    assert absent(root / "new")
    assert absent(root / "top")


@tree(*DEEP)
def test_a_renamed_directory_is_not_empty(root: Path) -> None:
    """rmdir of a renamed directory sees what it holds."""
    os.rename(root / "top", root / "new")
    with refused(errno.ENOTEMPTY):
        os.rmdir(root / "new")


@tree(*DEEP)
def test_open_directory_over_its_rename(root: Path) -> None:
    """A directory held open keeps listing itself and finds children by descriptor."""
    with opened(root / "top", os.O_RDONLY) as fd:
        os.rename(root / "top", root / "new")
        assert set(os.listdir(fd)) == {"mid", "a", "b", "l", "empty"}
        child = os.open("mid/leaf", os.O_RDONLY, dir_fd=fd)
        assert os.read(child, 10) == b"leaf"
        os.close(child)


@tree(*DEEP)
def test_open_file_over_the_rename_of_its_parent(root: Path) -> None:
    """A file held open is written after its directory was renamed."""
    with opened(root / "top" / "a", os.O_RDWR) as fd:
        os.rename(root / "top", root / "new")
        os.pwrite(fd, b"A", 0)
    assert (root / "new" / "a").read_bytes() == b"A"


@tree(*DEEP)
def test_dot_dot_after_a_rename(root: Path) -> None:
    """`..` of a moved directory is its new parent."""
    os.rename(root / "top", root / "other" / "top")
    assert os.stat(f"{root}/other/top/..").st_ino == os.stat(root / "other").st_ino


@tree(*DEEP)
def test_inodes_beneath_a_rename(root: Path) -> None:
    """A moved directory and what it holds keep their inode numbers."""
    before = [os.lstat(root / "top" / name).st_ino for name in ("", "mid", "mid/leaf", "a")]
    os.rename(root / "top", root / "new")
    after = [os.lstat(root / "new" / name).st_ino for name in ("", "mid", "mid/leaf", "a")]
    assert after == before


@tree(*DEEP, directory("top/mode", mode=0o1700, uid=5, gid=6, xattrs={"user.a": b"1"}))
def test_rename_keeps_a_directory_s_attributes(root: Path) -> None:
    """Mode, owner, mtime and xattrs of a renamed directory stay."""
    before = os.lstat(root / "top" / "mode")
    os.rename(root / "top" / "mode", root / "mode")
    after = os.lstat(root / "mode")
    for name in ("st_mode", "st_uid", "st_gid", "st_mtime_ns"):
        assert getattr(after, name) == getattr(before, name), name
    assert os.getxattr(root / "mode", "user.a") == b"1"


@tree(*DEEP, file("second/mid/leaf", b"second leaf"))
def test_directories_with_equal_names_inside(root: Path) -> None:
    """Two moved directories whose children have equal names keep theirs apart."""
    os.rename(root / "top" / "mid", root / "other" / "one")
    os.rename(root / "second" / "mid", root / "top" / "mid")
    assert (root / "other" / "one" / "leaf").read_bytes() == b"leaf"
    assert (root / "top" / "mid" / "leaf").read_bytes() == b"second leaf"


@tree(*DEEP)
def test_move_out_and_reuse_the_name_inside(root: Path) -> None:
    """A subdirectory moved out and another made in its place are two."""
    os.rename(root / "top" / "mid", root / "kept")
    os.makedirs(root / "top" / "mid" / "deeper")
    os.rename(root / "top", root / "new")
    assert names(root / "new" / "mid") == {"deeper"}
    assert names(root / "kept") == {"leaf"}
