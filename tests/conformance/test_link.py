"""link(2), and what several names of one file mean over copy-up."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.conformance.cases import absent, names, opened, refused, tree
from tests.conformance.tree import directory, file, hard_link, special, symlink
from tests.helpers.calls import AT_SYMLINK_FOLLOW, linkat

PAIR = (file("a", b"data"), hard_link("b", "a"))


def identity(path: Path) -> tuple[int, int]:
    st = os.lstat(path)
    return st.st_dev, st.st_ino


@tree(file("f", b"data"), directory("d"))
def test_link_gives_a_second_name(root: Path) -> None:
    """Both names are one file: inode, link count, content."""
    os.link(root / "f", root / "d" / "g")
    assert identity(root / "f") == identity(root / "d" / "g")
    assert os.stat(root / "f").st_nlink == os.stat(root / "d" / "g").st_nlink == 2
    assert (root / "d" / "g").read_bytes() == b"data"


@tree(file("f", b"data"))
def test_link_then_write_through_either_name(root: Path) -> None:
    """What is written through one name is read through the other."""
    os.link(root / "f", root / "g")
    (root / "g").write_bytes(b"from g")
    assert (root / "f").read_bytes() == b"from g"
    (root / "f").write_bytes(b"from f")
    assert (root / "g").read_bytes() == b"from f"


@tree(file("f", b"data"))
def test_link_then_unlink_the_first_name(root: Path) -> None:
    """The file lives on under its second name, with one link."""
    os.link(root / "f", root / "g")
    os.unlink(root / "f")
    assert absent(root / "f")
    assert (root / "g").read_bytes() == b"data"
    assert os.stat(root / "g").st_nlink == 1


@tree(file("f"), file("there", b"old"), directory("d"), symlink("dangling", "none"))
@pytest.mark.parametrize("name", ["f", "there", "d", "dangling"])
def test_link_over_anything(root: Path, name: str) -> None:
    """link refuses every existing name, its own too."""
    with refused(errno.EEXIST):
        os.link(root / "f", root / name)
    assert (root / "there").read_bytes() == b"old"
    assert os.stat(root / "f").st_nlink == 1


@tree(file("f", b"new"), file("was", b"old"))
def test_link_over_a_deleted_name(root: Path) -> None:
    """A link may take the name of a deleted file."""
    os.unlink(root / "was")
    os.link(root / "f", root / "was")
    assert (root / "was").read_bytes() == b"new"


@tree(directory("d"))
def test_link_of_a_directory(root: Path) -> None:
    """Directories take no second name."""
    with refused(errno.EPERM):
        os.link(root / "d", root / "e")
    assert absent(root / "e")


@tree(symlink("l", "f"), file("f", b"data"))
def test_link_of_a_symlink(root: Path) -> None:
    """Without following, the symlink itself gets a second name."""
    os.link(root / "l", root / "m", follow_symlinks=False)
    assert os.readlink(root / "m") == "f"
    assert identity(root / "l") == identity(root / "m")
    assert os.lstat(root / "m").st_nlink == 2


@tree(symlink("l", "f"), file("f", b"data"))
def test_link_through_a_symlink(root: Path) -> None:
    """With AT_SYMLINK_FOLLOW, what the symlink leads to gets the name."""
    linkat(root / "l", root / "m", AT_SYMLINK_FOLLOW)
    assert identity(root / "f") == identity(root / "m")


@tree(special("p", stat.S_IFIFO | 0o600), special("c", stat.S_IFCHR | 0o600, os.makedev(1, 3)))
@pytest.mark.parametrize("name", ["p", "c"])
def test_link_of_a_special_file(root: Path, name: str) -> None:
    """Fifos and devices take a second name as files do."""
    os.link(root / name, root / "other")
    assert identity(root / name) == identity(root / "other")
    assert os.lstat(root / name).st_mode == os.lstat(root / "other").st_mode


@tree(file("f"))
def test_link_of_or_into_what_is_absent(root: Path) -> None:
    """An absent source or an absent parent is ENOENT; a file as parent ENOTDIR."""
    with refused(errno.ENOENT):
        os.link(root / "none", root / "g")
    with refused(errno.ENOENT):
        os.link(root / "f", root / "none" / "g")
    with refused(errno.ENOTDIR):
        os.link(root / "f", root / "f" / "g")
    assert names(root) == {"f"}


def test_link_of_a_deleted_file(root: Path) -> None:
    """A file with no name left gets none back through /proc."""
    with opened(root / "f", os.O_RDWR | os.O_CREAT) as fd:
        os.unlink(root / "f")
        with refused(errno.ENOENT):
            linkat(f"/proc/self/fd/{fd}", root / "g", AT_SYMLINK_FOLLOW)
    assert names(root) == set()


# -- links that were there before --


@tree(*PAIR)
def test_linked_names_share_their_inode(root: Path) -> None:
    """Two names of one file show it: same inode, a link count of two."""
    assert identity(root / "a") == identity(root / "b")
    assert os.stat(root / "a").st_nlink == 2


@tree(*PAIR)
def test_linked_names_stay_one_file_over_a_write(root: Path) -> None:
    """Writing through one name changes the file the other names."""
    (root / "a").write_bytes(b"changed")
    assert (root / "b").read_bytes() == b"changed"
    assert identity(root / "a") == identity(root / "b")
    assert os.stat(root / "a").st_nlink == os.stat(root / "b").st_nlink == 2


@tree(*PAIR)
def test_linked_names_stay_one_file_when_both_are_written(root: Path) -> None:
    """Appending through each name in turn builds one content."""
    for name, data in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        with opened(root / name, os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, data)
    assert (root / "a").read_bytes() == (root / "b").read_bytes() == b"data123"


@tree(*PAIR)
def test_linked_names_share_attributes(root: Path) -> None:
    """chmod, chown, utimes and setxattr through one name show through the other."""
    os.chmod(root / "a", 0o600)
    os.chown(root / "a", 5, 6)
    os.utime(root / "a", ns=(1, 2))
    os.setxattr(root / "a", "user.x", b"v")
    st = os.stat(root / "b")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns) == (0o600, 5, 6, 2)
    assert os.getxattr(root / "b", "user.x") == b"v"


@tree(*PAIR)
def test_linked_names_after_one_is_removed(root: Path) -> None:
    """The remaining name keeps the content and counts one link."""
    os.unlink(root / "a")
    assert (root / "b").read_bytes() == b"data"
    assert os.stat(root / "b").st_nlink == 1


@tree(*PAIR)
def test_linked_names_after_write_and_removal(root: Path) -> None:
    """Written through one name, which is then removed, the other has the new content."""
    (root / "a").write_bytes(b"changed")
    os.unlink(root / "a")
    assert (root / "b").read_bytes() == b"changed"
    assert os.stat(root / "b").st_nlink == 1


@tree(*PAIR)
def test_linked_names_after_one_is_replaced(root: Path) -> None:
    """A new file under one of the names is no longer the other's."""
    os.unlink(root / "a")
    (root / "a").write_bytes(b"new")
    assert (root / "b").read_bytes() == b"data"
    assert identity(root / "a") != identity(root / "b")
    assert os.stat(root / "a").st_nlink == os.stat(root / "b").st_nlink == 1


@tree(file("a", b"data"), hard_link("d/b", "a"), hard_link("d/e/c", "a"))
def test_a_third_name_in_another_directory(root: Path) -> None:
    """Three names in three directories are one file after a change by one of them."""
    os.link(root / "d" / "b", root / "fourth")
    (root / "d" / "e" / "c").write_bytes(b"changed")
    paths = [root / "a", root / "d" / "b", root / "d" / "e" / "c", root / "fourth"]
    assert {path.read_bytes() for path in paths} == {b"changed"}
    assert {os.stat(path).st_nlink for path in paths} == {4}
    assert len({identity(path) for path in paths}) == 1


@tree(*PAIR)
def test_linked_names_count_down_to_none(root: Path) -> None:
    """An open file counts its links down with each unlink, to zero."""
    with opened(root / "a", os.O_RDWR) as fd:
        assert os.fstat(fd).st_nlink == 2
        os.unlink(root / "b")
        assert os.fstat(fd).st_nlink == 1
        os.unlink(root / "a")
        assert os.fstat(fd).st_nlink == 0


@tree(*PAIR)
def test_rename_between_names_of_one_file(root: Path) -> None:
    """Renaming a name over another of the same file succeeds and does nothing."""
    os.rename(root / "a", root / "b")
    assert names(root) == {"a", "b"}
    assert os.stat(root / "a").st_nlink == 2


@tree(*PAIR, file("other", b"other"))
def test_rename_over_one_of_two_names(root: Path) -> None:
    """What is renamed over one name takes it alone; the other keeps the old file."""
    os.rename(root / "other", root / "a")
    assert (root / "a").read_bytes() == b"other"
    assert (root / "b").read_bytes() == b"data"
    assert os.stat(root / "b").st_nlink == 1


@tree(symlink("l", "target"), hard_link("m", "l"))
def test_linked_symlinks(root: Path) -> None:
    """Two names of one symlink stay one over a chown."""
    os.chown(root / "l", 5, 6, follow_symlinks=False)
    st = os.lstat(root / "m")
    assert (st.st_uid, st.st_gid, st.st_nlink) == (5, 6, 2)
    assert os.readlink(root / "m") == "target"


@tree(*PAIR)
def test_linked_names_held_open_apart(root: Path) -> None:
    """A reader that opened one name sees what is written through the other."""
    with opened(root / "b", os.O_RDONLY) as reader:
        (root / "a").write_bytes(b"DATA!")
        assert os.pread(reader, 10, 0) == b"DATA!"
