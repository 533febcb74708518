"""getdents64: what a directory lists, in what form, while it changes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from tests.conformance.cases import names, opened, refused, tree, union_only
from tests.conformance.subjects import World
from tests.conformance.tree import directory, file, hard_link, special, symlink
from tests.helpers.calls import Dirent, all_dirents, getdents64

D_TYPES = {"f": 8, "d": 4, "l": 10, "p": 1, "c": 2, "b": 6, "s": 12}
KINDS = (
    file("all/f", b"data"),
    directory("all/d"),
    symlink("all/l", "f"),
    special("all/p", stat.S_IFIFO | 0o600),
    special("all/c", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    special("all/b", stat.S_IFBLK | 0o600, os.makedev(7, 0)),
    special("all/s", stat.S_IFSOCK | 0o600),
)
MANY = 3000
MANY_FILES = tuple(file(f"d/entry-{number:04d}") for number in range(MANY))
SEVERAL = tuple(file(f"d/{number:03d}") for number in range(200))


def listed(entries: list[Dirent]) -> list[bytes]:
    return sorted(entry.name for entry in entries)


@tree(*KINDS)
def test_every_kind_is_listed_with_its_type(root: Path) -> None:
    """d_type tells each kind of object; `.` and `..` are there once."""
    found = {entry.name.decode(): entry.d_type for entry in all_dirents(root / "all")}
    assert found == {**D_TYPES, ".": 4, "..": 4}
    assert len(all_dirents(root / "all")) == len(found)


@tree(*KINDS, hard_link("all/h", "all/f"))
def test_d_ino_is_st_ino(root: Path) -> None:
    """The inode number in the listing is the one stat shows, `.` and `..` included."""
    for entry in all_dirents(root / "all"):
        path = os.path.join(os.fsencode(root / "all"), entry.name)
        assert entry.d_ino == os.lstat(path).st_ino, entry.name


@tree(*KINDS)
def test_d_ino_is_st_ino_after_changes(root: Path) -> None:
    """The same after every entry was changed, some renamed, and others made."""
    for name in D_TYPES:
        os.lchown(root / "all" / name, 5, 5)
    os.rename(root / "all" / "f", root / "all" / "f2")
    os.rename(root / "all" / "d", root / "all" / "d2")
    (root / "all" / "new").write_bytes(b"")
    for entry in all_dirents(root / "all"):
        path = os.path.join(os.fsencode(root / "all"), entry.name)
        assert entry.d_ino == os.lstat(path).st_ino, entry.name


@tree(*KINDS)
def test_an_empty_directory(root: Path) -> None:
    """An empty directory lists `.` and `..`."""
    assert listed(all_dirents(root / "all" / "d")) == [b".", b".."]


@tree(*KINDS)
def test_scandir_agrees(root: Path) -> None:
    """os.scandir knows each entry's kind without stat, and the same inode."""
    with os.scandir(root / "all") as entries:
        for entry in entries:
            st = os.lstat(entry.path)
            assert entry.is_dir(follow_symlinks=False) == stat.S_ISDIR(st.st_mode)
            assert entry.is_file(follow_symlinks=False) == stat.S_ISREG(st.st_mode)
            assert entry.is_symlink() == stat.S_ISLNK(st.st_mode)
            assert entry.inode() == st.st_ino


@tree(*MANY_FILES)
def test_a_large_directory(root: Path) -> None:
    """Thousands of names are listed once each, whatever the buffer, and removed while reading.

    One case for both: laying out thousands of names costs more than the test.
    """
    expected = sorted([b".", b"..", *(b"entry-%04d" % n for n in range(MANY))])
    for size in (400, 32768, 1 << 20):
        assert listed(all_dirents(root / "d", size)) == expected
    with opened(root / "d", os.O_RDONLY) as fd:
        seen = 0
        while entries := getdents64(fd, 4096):
            for entry in entries:
                if entry.name not in (b".", b".."):
                    os.unlink(entry.name, dir_fd=fd)
                    seen += 1
    assert seen == MANY
    assert names(root / "d") == set()
    os.rmdir(root / "d")


@tree(*SEVERAL)
def test_creation_while_reading(root: Path) -> None:
    """What was there at the start is listed once, though names come and go meanwhile."""
    found = []
    with opened(root / "d", os.O_RDONLY) as fd:
        count = 0
        while entries := getdents64(fd, 1024):
            found += [entry.name for entry in entries]
            (root / "d" / f"new-{count}").write_bytes(b"")
            count += 1
    old = [name for name in found if not name.startswith(b"new-")]
    assert sorted(old) == sorted([b".", b"..", *(b"%03d" % n for n in range(200))])
    assert len(set(found)) == len(found)
    assert len(names(root / "d")) == 200 + count


@tree(*SEVERAL)
def test_rewind(root: Path) -> None:
    """Reading again from the start lists everything again, changes included."""
    with opened(root / "d", os.O_RDONLY) as fd:
        while getdents64(fd):
            pass
        assert getdents64(fd) == []
        os.unlink(root / "d" / "000")
        (root / "d" / "new").write_bytes(b"")
        os.lseek(fd, 0, os.SEEK_SET)
        found = []
        while entries := getdents64(fd):
            found += [entry.name for entry in entries]
    assert set(found) == {
        b".",
        b"..",
        b"new",
        *(b"%03d" % n for n in range(1, 200)),
    }


@tree(*SEVERAL)
def test_seek_to_every_cookie(root: Path) -> None:
    """seekdir to an entry's cookie goes on right behind it."""
    with opened(root / "d", os.O_RDONLY) as fd:
        everything: list[Dirent] = []
        while entries := getdents64(fd, 2048):
            everything += entries
        for index in (0, 1, 2, 50, 100, 198, 200):
            os.lseek(fd, everything[index].d_off, os.SEEK_SET)
            (following, *_) = getdents64(fd, 2048)
            assert following.name == everything[index + 1].name
        os.lseek(fd, everything[-1].d_off, os.SEEK_SET)
        assert getdents64(fd) == []


@tree(*SEVERAL)
def test_two_descriptors_read_apart(root: Path) -> None:
    """Each descriptor of a directory has a position of its own."""
    with opened(root / "d", os.O_RDONLY) as one, opened(root / "d", os.O_RDONLY) as two:
        first = getdents64(one, 1024)
        assert getdents64(two, 1024) == first
        assert getdents64(one, 1024)[0].name != first[0].name


@tree(directory("d"))
def test_read_a_removed_directory(root: Path) -> None:
    """A directory removed while open lists nothing of interest, and does not fail."""
    with opened(root / "d", os.O_RDONLY) as fd:
        os.rmdir(root / "d")
        try:
            rest = {entry.name for entry in getdents64(fd)}
        except FileNotFoundError:  # what most filesystems answer
            rest = set()
        assert rest <= {b".", b".."}


@tree(file("d/a"), file("d/b"))
def test_a_listing_follows_changes(root: Path) -> None:
    """Each change of names shows in the next listing."""
    d = root / "d"
    assert names(d) == {"a", "b"}
    os.unlink(d / "a")
    assert names(d) == {"b"}
    (d / "a").write_bytes(b"")
    assert names(d) == {"a", "b"}
    os.rename(d / "a", d / "c")
    assert names(d) == {"b", "c"}
    os.rename(d / "c", d / "b")
    assert names(d) == {"b"}
    os.mkdir(d / "a")
    os.symlink("x", d / "l")
    assert names(d) == {"a", "b", "l"}


@tree(file("f"), directory("d"))
def test_getdents_of_a_file(root: Path) -> None:
    """A file has no entries: ENOTDIR; a directory no bytes: EISDIR."""
    with opened(root / "f", os.O_RDONLY) as fd, refused(errno.ENOTDIR):
        getdents64(fd)
    with opened(root / "d", os.O_RDONLY) as fd, refused(errno.EISDIR):
        os.read(fd, 1)


@tree(file("d/inside"))
def test_tiny_buffer(root: Path) -> None:
    """A buffer too small for one entry is EINVAL."""
    with opened(root / "d", os.O_RDONLY) as fd, refused(errno.EINVAL):
        getdents64(fd, 8)


@union_only
@tree(file("d/a"), file("d/b"), file("d/c"))
def test_no_marks_are_listed(root: Path, world: World) -> None:
    """The upper holds whiteouts after deletions; nobody sees them, nor their types."""
    for name in "abc":
        os.unlink(root / "d" / name)
    assert listed(all_dirents(root / "d")) == [b".", b".."]
    assert world.mount_point.joinpath(root.name, "d").is_dir()
    os.rmdir(root / "d")
    assert b"d" not in listed(all_dirents(root))
