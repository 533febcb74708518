"""Which times an operation moves, and which it must leave."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.cases import opened, tree
from tests.conformance.tree import OLD_NS, directory, file, hard_link, symlink
from tests.helpers.calls import RENAME_EXCHANGE, btime_ns, next_tick, renameat2

TREE = (
    file("d/f", b"data"),
    file("d/g", b"other"),
    directory("d/sub"),
    symlink("d/l", "f"),
    directory("e"),
    file("e/x", b"x"),
)
NAME_CHANGES: dict[str, Callable[[Path], object]] = {
    "create": lambda d: (d / "new").write_bytes(b""),
    "mkdir": lambda d: os.mkdir(d / "new"),
    "mkfifo": lambda d: os.mkfifo(d / "new"),
    "symlink": lambda d: os.symlink("x", d / "new"),
    "link": lambda d: os.link(d / "f", d / "new"),
    "unlink": lambda d: os.unlink(d / "f"),
    "unlink symlink": lambda d: os.unlink(d / "l"),
    "rmdir": lambda d: os.rmdir(d / "sub"),
    "rename": lambda d: os.rename(d / "f", d / "new"),
    "rename over": lambda d: os.rename(d / "f", d / "g"),
    "rename out": lambda d: os.rename(d / "f", d.parent / "e" / "new"),
    "rename in": lambda d: os.rename(d.parent / "e" / "x", d / "new"),
    "rename a directory": lambda d: os.rename(d / "sub", d / "new"),
    "exchange": lambda d: renameat2(d / "f", d / "sub", RENAME_EXCHANGE),
}
OTHER_CHANGES: dict[str, Callable[[Path], object]] = {
    "write": lambda d: (d / "f").write_bytes(b"new"),
    "chmod": lambda d: os.chmod(d / "f", 0o600),
    "chown of a symlink": lambda d: os.lchown(d / "l", 5, 6),
    "utimes of a directory": lambda d: os.utime(d / "sub", ns=(1, 2)),
    "setxattr": lambda d: os.setxattr(d / "f", "user.a", b"1"),
    "truncate": lambda d: os.truncate(d / "f", 0),
    "create deeper": lambda d: (d / "sub" / "new").write_bytes(b""),
    "link out": lambda d: os.link(d / "f", d.parent / "e" / "new"),
    "open for writing": lambda d: os.close(os.open(d / "f", os.O_RDWR)),
}


@tree(*TREE)
@pytest.mark.parametrize("change", NAME_CHANGES)
def test_changing_names_moves_the_parent_s_times(root: Path, change: str) -> None:
    """A directory's mtime and ctime move when a name in it comes, goes or changes."""
    before = os.lstat(root / "d")
    next_tick()
    NAME_CHANGES[change](root / "d")
    after = os.lstat(root / "d")
    assert after.st_mtime_ns > before.st_mtime_ns
    assert after.st_ctime_ns > before.st_ctime_ns


@tree(*TREE)
@pytest.mark.parametrize("change", OTHER_CHANGES)
def test_changing_a_child_leaves_the_parent_s_mtime(root: Path, change: str) -> None:
    """A directory's mtime stays while the same names stand for the same objects."""
    OTHER_CHANGES[change](root / "d")
    assert os.lstat(root / "d").st_mtime_ns == OLD_NS
    assert os.lstat(root / "d").st_nlink >= 1


@tree(*TREE)
def test_removing_elsewhere_leaves_other_directories(root: Path) -> None:
    """Work in one directory leaves its sibling's and its parent's mtime."""
    before = os.lstat(root).st_mtime_ns
    os.unlink(root / "d" / "f")
    assert os.lstat(root / "e").st_mtime_ns == OLD_NS
    assert os.lstat(root).st_mtime_ns == before


@tree(*TREE)
@pytest.mark.parametrize("change", ["chmod", "setxattr", "open for writing", "link out"])
def test_a_file_s_mtime_stays_over(root: Path, change: str) -> None:
    """Changes that leave the content leave mtime and atime."""
    OTHER_CHANGES[change](root / "d")
    st = os.lstat(root / "d" / "f")
    assert (st.st_mtime_ns, st.st_atime_ns) == (OLD_NS, OLD_NS)


@tree(*TREE)
def test_rename_leaves_mtime_and_moves_ctime(root: Path) -> None:
    """A renamed file keeps its mtime; its ctime moves."""
    before = os.lstat(root / "d" / "f")
    next_tick()
    os.rename(root / "d" / "f", root / "e" / "f")
    after = os.lstat(root / "e" / "f")
    assert after.st_mtime_ns == OLD_NS
    assert after.st_ctime_ns > before.st_ctime_ns


@tree(*TREE)
def test_write_moves_mtime_and_ctime(root: Path) -> None:
    """Content written moves both, seen through descriptor and name alike."""
    before = os.lstat(root / "d" / "f")
    next_tick()
    with opened(root / "d" / "f", os.O_WRONLY) as fd:
        os.write(fd, b"x")
        st = os.fstat(fd)
        assert st.st_mtime_ns > before.st_mtime_ns
        assert st.st_ctime_ns > before.st_ctime_ns
    assert os.lstat(root / "d" / "f").st_mtime_ns == st.st_mtime_ns


@tree(*TREE)
def test_mtime_set_after_a_write_stays(root: Path) -> None:
    """tar's order: write, set the time, close. The time set is the one that stays."""
    with opened(root / "d" / "f", os.O_WRONLY) as fd:
        os.write(fd, b"x")
        os.utime(fd, ns=(1, 2))
    assert os.lstat(root / "d" / "f").st_mtime_ns == 2


CTIME_CHANGES: dict[str, Callable[[Path], object]] = {
    "chmod": lambda f: os.chmod(f, 0o600),
    "chown": lambda f: os.chown(f, 5, 5),
    "setxattr": lambda f: os.setxattr(f, "user.a", b"1"),
    "link": lambda f: os.link(f, f.parent / "second"),
    "unlink of another name": lambda f: os.unlink(f.parent / "g-too"),
}


@tree(file("f"), hard_link("g-too", "f"))
@pytest.mark.parametrize("change", CTIME_CHANGES)
def test_ctime_moves_with_every_change_of_attributes(root: Path, change: str) -> None:
    """chmod, chown, setxattr, link and unlink move ctime and leave mtime."""
    before = os.lstat(root / "f").st_ctime_ns
    next_tick()
    CTIME_CHANGES[change](root / "f")
    after = os.lstat(root / "f")
    assert after.st_ctime_ns > before
    assert after.st_mtime_ns == OLD_NS


@tree(file("f"), directory("d"), symlink("l", "f"))
@pytest.mark.parametrize("name", ["f", "d", "l"])
def test_a_chown_to_nobody_new_moves_ctime(root: Path, name: str) -> None:
    before = os.lstat(root / name).st_ctime_ns
    next_tick()
    os.chown(root / name, -1, -1, follow_symlinks=False)
    assert os.lstat(root / name).st_ctime_ns > before


@tree(*TREE)
def test_reading_changes_no_other_time(root: Path) -> None:
    """Reading content, a directory and a link leaves mtime and ctime."""
    paths = [root / "d" / "f", root / "d", root / "d" / "l"]
    before = [(os.lstat(path).st_mtime_ns, os.lstat(path).st_ctime_ns) for path in paths]
    (root / "d" / "f").read_bytes()
    os.listdir(root / "d")
    os.readlink(root / "d" / "l")
    after = [(os.lstat(path).st_mtime_ns, os.lstat(path).st_ctime_ns) for path in paths]
    assert after == before


def test_new_objects_have_the_present_time(root: Path) -> None:
    """What is made now has all its times from now, and from one clock."""
    start = os.lstat(root).st_ctime_ns
    next_tick()
    (root / "f").write_bytes(b"")
    os.mkdir(root / "d")
    os.symlink("x", root / "l")
    for name in ("f", "d", "l"):
        st = os.lstat(root / name)
        assert min(st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns) > start


@tree(*TREE)
def test_birth_time(root: Path) -> None:
    """statx tells when a new file was made."""
    next_tick()
    (root / "new").write_bytes(b"")
    born = btime_ns(root / "new")
    assert born is not None
    assert born <= os.lstat(root / "new").st_ctime_ns
