"""rename(2): every kind over every kind, and what the old and new names then hold."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.conformance.cases import absent, names, opened, refused, tree
from tests.conformance.tree import directory, file, special, symlink

KINDS = (
    file("file", b"file"),
    symlink("symlink", "file"),
    special("fifo", stat.S_IFIFO | 0o600),
    directory("empty"),
    file("full/inside", b"inside"),
    file("over-file", b"old"),
    symlink("over-symlink", "elsewhere"),
    special("over-fifo", stat.S_IFIFO | 0o600),
    directory("over-empty"),
    file("over-full/old", b"old"),
)
NAMES = ("file", "symlink", "fifo", "empty", "full")
DIRECTORIES = ("empty", "full")


def outcome(source: str, target: str) -> int:
    """Return the errno of renaming one kind over another, 0 for success."""
    if source in DIRECTORIES and target not in DIRECTORIES:
        return errno.ENOTDIR
    if source not in DIRECTORIES and target in DIRECTORIES:
        return errno.EISDIR
    return errno.ENOTEMPTY if target == "full" else 0


def describe(path: Path) -> object:
    """Return what tells one of `KINDS` from another."""
    if path.is_symlink():
        return os.readlink(path)
    if path.is_dir():
        return names(path)
    return path.read_bytes() if path.is_file() else stat.S_IFMT(os.lstat(path).st_mode)


@tree(*KINDS)
@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("source", NAMES)
def test_rename_over(root: Path, source: str, target: str) -> None:
    """Each kind over each: replaced wholly, or refused with nothing changed."""
    old, new = root / source, root / f"over-{target}"
    before, there = describe(old), describe(new)
    inode = os.lstat(old).st_ino
    code = outcome(source, target)
    if code:
        with refused(code):
            os.rename(old, new)
        assert describe(old) == before
        assert describe(new) == there
    else:
        os.rename(old, new)
        assert absent(old)
        assert describe(new) == before
        assert os.lstat(new).st_ino == inode


@tree(*KINDS, directory("into"))
@pytest.mark.parametrize("name", NAMES)
def test_rename_into_another_directory(root: Path, name: str) -> None:
    """Each kind moves into another directory and back."""
    before = describe(root / name)
    os.rename(root / name, root / "into" / "moved")
    assert absent(root / name)
    assert describe(root / "into" / "moved") == before
    os.rename(root / "into" / "moved", root / name)
    assert describe(root / name) == before
    assert names(root / "into") == set()


@tree(*KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_rename_onto_itself(root: Path, name: str) -> None:
    """Renaming a name to itself does nothing."""
    before = describe(root / name)
    os.rename(root / name, root / name)
    assert describe(root / name) == before


@tree(*KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_create_at_the_old_name(root: Path, name: str) -> None:
    """The old name is free after a rename, and what is made there is new and empty."""
    before = describe(root / name)
    os.rename(root / name, root / "moved")
    if name in DIRECTORIES:
        os.mkdir(root / name)
        assert names(root / name) == set()
    else:
        (root / name).write_bytes(b"")
        assert (root / name).read_bytes() == b""
    assert describe(root / "moved") == before


@tree(*KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_rename_over_a_deleted_name(root: Path, name: str) -> None:
    """A name that was deleted can be renamed to."""
    before = describe(root / name)
    os.unlink(root / "over-file")
    os.rename(root / name, root / "over-file")
    assert describe(root / "over-file") == before


@tree(*KINDS)
def test_rename_what_is_absent(root: Path) -> None:
    """Absent sources and absent target parents are ENOENT, files as parents ENOTDIR."""
    with refused(errno.ENOENT):
        os.rename(root / "none", root / "new")
    with refused(errno.ENOENT):
        os.rename(root / "none", root / "file")
    with refused(errno.ENOENT):
        os.rename(root / "file", root / "none" / "new")
    with refused(errno.ENOTDIR):
        os.rename(root / "file", root / "over-file" / "new")
    assert (root / "file").read_bytes() == b"file"


@tree(*KINDS)
def test_rename_with_trailing_slashes(root: Path) -> None:
    """A trailing slash demands a directory."""
    with refused(errno.ENOTDIR):
        os.rename(f"{root}/file/", root / "new")
    with refused(errno.ENOTDIR):
        os.rename(root / "file", f"{root}/new/")
    os.rename(f"{root}/full/", f"{root}/new/")
    assert names(root / "new") == {"inside"}


@tree(*KINDS)
def test_rename_dot(root: Path) -> None:
    """`.` and `..` are not renamed."""
    with refused(errno.EBUSY):
        os.rename(f"{root}/full/.", root / "new")
    with refused(errno.EBUSY):
        os.rename(root / "file", f"{root}/full/..")


@tree(file("f", b"data", mode=0o640, uid=5, gid=6, xattrs={"user.a": b"1"}))
def test_rename_keeps_the_attributes(root: Path) -> None:
    """A renamed file keeps mode, owner, mtime, xattrs and content."""
    before = os.lstat(root / "f")
    os.rename(root / "f", root / "g")
    after = os.lstat(root / "g")
    for name in ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_size", "st_nlink"):
        assert getattr(after, name) == getattr(before, name), name
    assert os.getxattr(root / "g", "user.a") == b"1"
    assert (root / "g").read_bytes() == b"data"


@tree(file("f", b"old"), directory("d"))
def test_rename_while_open(root: Path) -> None:
    """A descriptor stays with its file over a rename to another directory."""
    with opened(root / "f", os.O_RDWR) as fd:
        os.rename(root / "f", root / "d" / "g")
        os.write(fd, b"NEW")
        assert os.fstat(fd).st_ino == os.lstat(root / "d" / "g").st_ino
    assert (root / "d" / "g").read_bytes() == b"NEW"


@tree(file("f", b"old"), file("target", b"target"))
def test_rename_over_an_open_file(root: Path) -> None:
    """The file that a rename replaces lives on in its descriptor."""
    with opened(root / "target", os.O_RDWR) as fd:
        os.rename(root / "f", root / "target")
        assert os.read(fd, 20) == b"target"
        os.pwrite(fd, b"T", 0)
        assert os.pread(fd, 20, 0) == b"Target"
        assert os.fstat(fd).st_nlink == 0
    assert (root / "target").read_bytes() == b"old"


@tree(file("f", b"data"))
def test_rename_then_unlink(root: Path) -> None:
    """Neither the old nor the new name comes back after the unlink."""
    os.rename(root / "f", root / "g")
    os.unlink(root / "g")
    assert absent(root / "f")
    assert absent(root / "g")


@tree(file("f", b"lower"), file("g", b"lower g"))
def test_rename_then_change(root: Path) -> None:
    """A file renamed over another is changed under its new name only."""
    os.rename(root / "f", root / "g")
    (root / "g").write_bytes(b"changed")
    assert (root / "g").read_bytes() == b"changed"
    assert names(root) == {"g"}


@tree(file("f", b"content"))
def test_rename_round_and_round(root: Path) -> None:
    """A chain of renames that ends at the first name leaves the file as it was."""
    for old, new in ("fg", "gh", "hi", "if"):
        os.rename(root / old, root / new)
    assert names(root) == {"f"}
    assert (root / "f").read_bytes() == b"content"


@tree(file("f", b"new"), file("config", b"old", mode=0o600))
def test_replace_a_file_the_safe_way(root: Path) -> None:
    """Write a temporary, fsync it, rename it over: what editors and package managers do."""
    with opened(root / ".config.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) as fd:
        os.write(fd, b"replaced")
        os.fsync(fd)
    os.rename(root / ".config.tmp", root / "config")
    with opened(root, os.O_RDONLY) as fd:
        os.fsync(fd)
    assert names(root) == {"f", "config"}
    assert (root / "config").read_bytes() == b"replaced"
