"""unlink(2) and rmdir(2): what goes, what may not, and that it does not come back."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.conformance.cases import absent, names, opened, refused, tree
from tests.conformance.tree import directory, file, special, symlink
from tests.helpers.calls import all_dirents

EVERYTHING = (
    file("f", b"data"),
    directory("empty"),
    symlink("l", "f"),
    symlink("to-dir", "full"),
    special("p", stat.S_IFIFO | 0o600),
    special("c", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    file("full/x", b"x"),
    file("full/sub/y", b"y"),
)


@tree(*EVERYTHING)
@pytest.mark.parametrize("name", ["f", "l", "to-dir", "p", "c"])
def test_unlink(root: Path, name: str) -> None:
    """Every kind but directories is unlinked; a symlink's target stays."""
    os.unlink(root / name)
    assert absent(root / name)
    assert names(root / "full") == {"x", "sub"}


@tree(*EVERYTHING)
@pytest.mark.parametrize("name", ["empty", "full"])
def test_unlink_of_a_directory(root: Path, name: str) -> None:
    """unlink refuses a directory, empty or not."""
    with refused(errno.EISDIR):
        os.unlink(root / name)
    assert os.path.isdir(root / name)


@tree(*EVERYTHING)
def test_unlink_of_what_is_absent(root: Path) -> None:
    """Absent names are ENOENT, names beneath a file ENOTDIR."""
    with refused(errno.ENOENT):
        os.unlink(root / "none")
    with refused(errno.ENOTDIR):
        os.unlink(root / "f" / "x")
    with refused(errno.ENOTDIR):
        os.unlink(f"{root}/f/")


@tree(file("f", b"data"))
def test_unlink_twice(root: Path) -> None:
    """What was unlinked is gone for a second unlink."""
    os.unlink(root / "f")
    with refused(errno.ENOENT):
        os.unlink(root / "f")


@tree(file("f", b"lower", mode=0o600, uid=5, xattrs={"user.a": b"1"}))
def test_recreate_after_unlink(root: Path) -> None:
    """A file made anew under a deleted name has nothing of the old one."""
    os.unlink(root / "f")
    with opened(root / "f", os.O_RDWR | os.O_CREAT) as fd:
        st = os.fstat(fd)
        assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_size) == (0o644, 0, 0)
    assert "user.a" not in os.listxattr(root / "f")


@tree(file("f", b"lower"))
def test_create_and_unlink_again_and_again(root: Path) -> None:
    """Each unlink hides what the layers hold, however often the name came back."""
    for count in range(4):
        os.unlink(root / "f")
        assert absent(root / "f")
        (root / "f").write_bytes(b"%d" % count)
        assert (root / "f").read_bytes() == b"%d" % count
    os.unlink(root / "f")
    assert absent(root / "f")


@tree(file("f", b"lower"))
def test_unlink_after_a_change(root: Path) -> None:
    """A file that was written first is gone as wholly as one that was not."""
    (root / "f").write_bytes(b"changed")
    os.unlink(root / "f")
    assert absent(root / "f")
    assert all(entry.name != b"f" for entry in all_dirents(root))


@tree(*EVERYTHING)
@pytest.mark.parametrize(
    ("name", "kind"),
    [("f", "dir"), ("l", "file"), ("p", "symlink"), ("empty", "file"), ("empty", "symlink")],
)
def test_another_kind_under_a_deleted_name(root: Path, name: str, kind: str) -> None:
    """A deleted name can become a file, a directory or a symlink."""
    path = root / name
    if path.is_dir():
        os.rmdir(path)
    else:
        os.unlink(path)
    if kind == "dir":
        os.mkdir(path)
        assert names(path) == set()
    elif kind == "file":
        path.write_bytes(b"new")
        assert path.read_bytes() == b"new"
    else:
        os.symlink("elsewhere", path)
        assert os.readlink(path) == "elsewhere"
    assert path.name in names(root)


# -- rmdir --


@tree(*EVERYTHING)
def test_rmdir(root: Path) -> None:
    """An empty directory goes; whiteouts in it are nothing to see."""
    os.rmdir(root / "empty")
    assert absent(root / "empty")


@tree(*EVERYTHING)
def test_rmdir_of_a_full_directory(root: Path) -> None:
    """A directory with visible entries stays, from whichever layer they are."""
    with refused(errno.ENOTEMPTY):
        os.rmdir(root / "full")
    assert names(root / "full") == {"x", "sub"}


@tree(*EVERYTHING)
@pytest.mark.parametrize("name", ["f", "l", "to-dir", "p"])
def test_rmdir_of_what_is_no_directory(root: Path, name: str) -> None:
    """rmdir takes directories only, and follows no symlink to one."""
    with refused(errno.ENOTDIR):
        os.rmdir(root / name)
    assert not absent(root / name)


@tree(*EVERYTHING)
def test_rmdir_of_dot_and_absent_names(root: Path) -> None:
    """`.` is EINVAL, `..` ENOTEMPTY, an absent name ENOENT."""
    with refused(errno.EINVAL):
        os.rmdir(f"{root}/empty/.")
    with refused(errno.ENOTEMPTY):
        os.rmdir(f"{root}/empty/..")
    with refused(errno.ENOENT):
        os.rmdir(root / "none")


@tree(*EVERYTHING)
def test_rmdir_once_emptied(root: Path) -> None:
    """A directory is removed once everything in it was."""
    os.unlink(root / "full" / "sub" / "y")
    os.rmdir(root / "full" / "sub")
    with refused(errno.ENOTEMPTY):
        os.rmdir(root / "full")
    os.unlink(root / "full" / "x")
    os.rmdir(root / "full")
    assert absent(root / "full")


@tree(*EVERYTHING)
def test_rmdir_of_a_directory_emptied_by_renames(root: Path) -> None:
    """Renaming the entries out of a directory empties it."""
    os.rename(root / "full" / "x", root / "x")
    os.rename(root / "full" / "sub", root / "sub")
    os.rmdir(root / "full")
    assert absent(root / "full")
    assert (root / "sub" / "y").read_bytes() == b"y"


@tree(file("d/old", b"old"))
def test_new_entries_in_a_remade_directory(root: Path) -> None:
    """A remade directory holds its new entries only, and is removed again."""
    os.unlink(root / "d" / "old")
    os.rmdir(root / "d")
    os.mkdir(root / "d")
    (root / "d" / "new").write_bytes(b"new")
    assert names(root / "d") == {"new"}
    with refused(errno.ENOTEMPTY):
        os.rmdir(root / "d")
    os.unlink(root / "d" / "new")
    os.rmdir(root / "d")
    assert absent(root / "d")


@tree(file("d/sub/x", b"old"))
def test_same_names_in_a_remade_directory(root: Path) -> None:
    """A subdirectory made under its old name inside a remade one is empty too."""
    os.unlink(root / "d" / "sub" / "x")
    os.rmdir(root / "d" / "sub")
    os.rmdir(root / "d")
    os.makedirs(root / "d" / "sub")
    assert names(root / "d" / "sub") == set()


@tree(directory("d"))
def test_rmdir_of_an_open_directory(root: Path) -> None:
    """A removed directory stays readable through its descriptor: empty, with no names."""
    with opened(root / "d", os.O_RDONLY) as fd:
        os.rmdir(root / "d")
        assert absent(root / "d")
        assert os.listdir(fd) == []
        with refused(errno.ENOENT):
            os.stat("..none", dir_fd=fd)
        assert stat.S_ISDIR(os.fstat(fd).st_mode)


@tree(*EVERYTHING, symlink("dangling", "none"))
def test_remove_the_whole_tree(root: Path) -> None:
    """A recursive removal, as of rm -r, leaves an empty directory that can be filled again."""
    for folder, subdirs, files in os.walk(root, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in subdirs:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                os.unlink(path)
            else:
                os.rmdir(path)
    assert names(root) == set()
    os.mkdir(root / "full")
    assert names(root / "full") == set()


@tree(directory("d"))
def test_unlink_by_directory_descriptor(root: Path) -> None:
    """Names are removed relative to an open directory."""
    with opened(root / "d", os.O_RDONLY) as fd:
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.unlink("f", dir_fd=fd)
        assert os.listdir(fd) == []
