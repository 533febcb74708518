"""A path is again what the lowers have, whatever the upper had of it, and in use meanwhile."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.unions import Content, core, errno_of, nodeid
from unionfs.core.config import RedirectDir, WhiteoutForm
from unionfs.types import ROOT_NODEID

CONTENT: Content = {
    "etc": {"passwd": "root", "d": {"a": "1", "b": "2", "sub": {"c": "3"}}},
    "one": "linked",
    "old": "old",
}


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    layers = Layers(tmp_path, CONTENT)
    os.link(layers.lowers[0] / "one", layers.lowers[0] / "etc/two")
    return layers


@pytest.fixture(params=[WhiteoutForm.CHAR, WhiteoutForm.XATTR, WhiteoutForm.AUFS])
def tree(layers: Layers, request: pytest.FixtureRequest) -> Iterator[CoreDriver]:
    with layers.union(whiteout=request.param) as tree:
        yield tree


def write(tree: CoreDriver, path: bytes, data: bytes) -> None:
    handle = tree.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    tree.pwrite(handle, data, 0)
    tree.close(handle)


def remove_all(tree: CoreDriver, path: bytes) -> None:
    for entry in list(tree.listdir(path)):
        if entry.name not in (b".", b".."):
            below = path + b"/" + entry.name
            try:
                tree.unlink(below)
            except IsADirectoryError:
                remove_all(tree, below)
    tree.rmdir(path)


def change(tree: CoreDriver) -> None:
    write(tree, b"etc/passwd", b"changed")


def delete(tree: CoreDriver) -> None:
    tree.unlink(b"etc/passwd")


def change_mode(tree: CoreDriver) -> None:
    tree.chmod(b"etc/passwd", 0o600)


def mark(tree: CoreDriver) -> None:
    tree.setxattr(b"etc/passwd", "user.mine", b"1", 0)


def replace_by_dir(tree: CoreDriver) -> None:
    delete(tree)
    tree.mkdir(b"etc/passwd", 0o755)
    write(tree, b"etc/passwd/in", b"in")


def delete_dir(tree: CoreDriver) -> None:
    remove_all(tree, b"etc/d")


def make_opaque(tree: CoreDriver) -> None:
    delete_dir(tree)
    tree.mkdir(b"etc/d", 0o700)
    write(tree, b"etc/d/a", b"other")


def change_beneath(tree: CoreDriver) -> None:
    write(tree, b"etc/d/sub/c", b"changed")
    write(tree, b"etc/d/sub/new", b"new")
    tree.unlink(b"etc/d/a")
    tree.mkdir(b"etc/d/more", 0o755)
    write(tree, b"etc/d/more/x", b"x")
    tree.chmod(b"etc/d", 0o711)


def replace_by_file(tree: CoreDriver) -> None:
    delete_dir(tree)
    write(tree, b"etc/d", b"a file")


def add(tree: CoreDriver) -> None:
    write(tree, b"etc/new", b"new")


def add_dir(tree: CoreDriver) -> None:
    tree.mkdir(b"etc/new", 0o755)
    write(tree, b"etc/new/in", b"in")


CHANGES: list[tuple[Callable[[CoreDriver], None], bytes]] = [
    (change, b"etc/passwd"),
    (delete, b"etc/passwd"),
    (change_mode, b"etc/passwd"),
    (mark, b"etc/passwd"),
    (replace_by_dir, b"etc/passwd"),
    (delete_dir, b"etc/d"),
    (make_opaque, b"etc/d"),
    (change_beneath, b"etc/d"),
    (replace_by_file, b"etc/d"),
    (add, b"etc/new"),
    (add_dir, b"etc/new"),
    (change_beneath, b"etc"),
    (make_opaque, b"etc"),
]


def seen(tree: CoreDriver, path: bytes = b"") -> dict[bytes, object]:
    """Return what is beneath `path`: for each name all but times and links of directories."""
    found: dict[bytes, object] = {}
    for entry in tree.listdir(path):
        below = path + b"/" + entry.name if path else entry.name
        st = tree.lstat(below)
        names = tree.listxattr(below)
        if st.is_dir:
            found[below] = st._replace(mtime_ns=0, size=0, nlink=1), names
            found |= seen(tree, below)
        else:
            found[below] = st, names, tree.read(below)
    return found


@pytest.mark.parametrize("action_and_path", CHANGES)
@pytest.mark.parametrize("cached", [True, False])
def test_a_path_is_as_in_the_lowers(
    layers: Layers,
    tree: CoreDriver,
    action_and_path: tuple[Callable[[CoreDriver], None], bytes],
    cached: bool,
) -> None:
    action, path = action_and_path
    before = seen(tree)
    action(tree)
    if not cached:
        tree.forget_all()
    assert seen(tree) != before
    assert core(tree).restore(path, dry_run=True) == (True, (), ())
    assert seen(tree) != before
    assert core(tree).restore(b"/" + path).changed
    assert seen(tree) == before
    if path != b"etc/new":
        assert not core(tree).restore(path).changed
    tree.forget_all()
    assert seen(tree) == before
    assert list(layers.upper.iterdir()) == []


def test_the_kernel_is_told(tree: CoreDriver) -> None:
    number, etc = nodeid(tree, b"etc/d"), nodeid(tree, b"etc")
    change_beneath(tree)
    sub, more = nodeid(tree, b"etc/d/sub"), nodeid(tree, b"etc/d/more")
    told = core(tree).restore(b"etc/d")
    assert set(told.inodes) == {ROOT_NODEID, etc, number, sub, more}
    assert set(told.names) == {
        (number, b"a"),
        (number, b"more"),
        (more, b"x"),
        (sub, b"c"),
        (sub, b"new"),
    }
    assert (nodeid(tree, b"etc/d"), nodeid(tree, b"etc/d/sub")) == (number, sub)


def test_an_open_file_stays_open(tree: CoreDriver) -> None:
    handle = tree.open(b"etc/passwd", os.O_RDWR, 0)
    tree.pwrite(handle, b"changed", 0)
    core(tree).restore(b"etc/passwd")
    assert tree.read(b"etc/passwd") == b"root"
    tree.pwrite(handle, b"again", 0)
    assert tree.pread(handle, 100, 0) == b"agained"
    assert tree.fstat(handle).nlink == 0
    assert tree.read(b"etc/passwd") == b"root"
    tree.close(handle)
    change(tree)
    assert tree.read(b"etc/passwd") == b"changed"


@pytest.mark.parametrize("written", [b"one", b"etc/two"])
@pytest.mark.parametrize("restored", [b"one", b"etc/two"])
@pytest.mark.parametrize("cached", [True, False])
def test_hard_links_are_restored_as_one_file(
    layers: Layers, written: bytes, restored: bytes, cached: bool
) -> None:
    with layers.union() as tree:
        before = seen(tree)
        write(tree, written, b"changed")
        assert tree.read(restored) == b"changed"
        if not cached:
            tree.forget_all()
        assert core(tree).restore(restored, dry_run=True).changed
        core(tree).restore(restored)
        tree.forget_all()
        assert tree.read(restored) == b"linked"
        other = b"one" if restored == b"etc/two" else b"etc/two"
        core(tree).restore(other)
        assert seen(tree) == before
        tree.forget_all()
        assert seen(tree) == before
    with layers.union() as tree:
        assert seen(tree) == before


def test_a_link_that_stays_changed_is_another_file(layers: Layers) -> None:
    with layers.union() as tree:
        write(tree, b"one", b"changed")
        handle = tree.open(b"one", os.O_RDONLY, 0)
        core(tree).restore(b"etc/two")
        assert (tree.read(b"one"), tree.read(b"etc/two")) == (b"changed", b"linked")
        assert tree.pread(handle, 100, 0) == b"changed"
        assert tree.lstat(b"one").ino != tree.lstat(b"etc/two").ino
        assert tree.lstat(b"one").nlink == 1
        tree.close(handle)
        tree.forget_all()
        assert tree.lstat(b"one").ino != tree.lstat(b"etc/two").ino
        assert tree.lstat(b"one").nlink == 1


@pytest.mark.parametrize("cached", [True, False])
def test_removed_links_are_counted_again(layers: Layers, cached: bool) -> None:
    with layers.union() as tree:
        before = seen(tree)
        tree.unlink(b"etc/two")
        assert tree.lstat(b"one").nlink == 1
        if not cached:
            tree.forget_all()
        core(tree).restore(b"etc")
        assert seen(tree) == before
    with layers.union() as tree:
        assert seen(tree) == before


def test_new_links_beneath_a_directory_go_together(layers: Layers) -> None:
    with layers.union() as tree:
        before = seen(tree)
        write(tree, b"etc/d/new", b"new")
        tree.link(b"etc/d/new", b"etc/d/sub/newer")
        handle = tree.open(b"etc/d/new", os.O_RDONLY, 0)
        core(tree).restore(b"etc/d")
        assert seen(tree) == before
        assert (tree.pread(handle, 9, 0), tree.fstat(handle).nlink) == (b"new", 0)


def test_a_directory_above_that_is_changed_itself_stays_so(tree: CoreDriver) -> None:
    tree.chmod(b"etc/d/sub", 0o700)
    write(tree, b"etc/d/sub/c", b"changed")
    core(tree).restore(b"etc/d/sub/c")
    assert tree.read(b"etc/d/sub/c") == b"3"
    assert tree.lstat(b"etc/d/sub").mode & 0o7777 == 0o700
    tree.chmod(b"etc/d/sub", 0o755)
    write(tree, b"etc/d/sub/c", b"changed")
    write(tree, b"etc/passwd", b"changed")
    core(tree).restore(b"etc/d/sub/c")
    assert tree.read(b"etc/passwd") == b"changed"


def test_a_moved_file_is_in_both_places(tree: CoreDriver) -> None:
    tree.rename(b"etc/passwd", b"moved", 0)
    core(tree).restore(b"etc/passwd")
    assert (tree.read(b"etc/passwd"), tree.read(b"moved")) == (b"root", b"root")


def rename_above(tree: CoreDriver) -> None:
    tree.rename(b"etc/d", b"etc/e", 0)


@pytest.mark.parametrize(
    ("action", "path", "why"),
    [
        (delete_dir, b"etc/d/sub/c", "/etc/d was deleted: restore /etc/d instead of /etc/d/sub/c"),
        (make_opaque, b"etc/d/b", "/etc/d is not the image's, .*: restore /etc/d instead"),
        (replace_by_file, b"etc/d/a", "/etc/d is no directory: restore /etc/d instead"),
        (add_dir, b"etc/new/in", "/etc/new is not in the image: restore /etc/new instead"),
        (rename_above, b"etc/d/a", "/etc/d was deleted: restore /etc/d"),
        (rename_above, b"etc/e/a", "/etc/e is not in the image: restore /etc/e"),
    ],
)
def test_what_to_restore_instead(
    layers: Layers, action: Callable[[CoreDriver], None], path: bytes, why: str
) -> None:
    with layers.union(redirect_dir=RedirectDir.ON) as tree:
        before = seen(tree)
        action(tree)
        said: list[tuple[int | None, str]] = []
        try:
            core(tree).restore(path)
        except OSError as error:
            said.append((error.errno, str(error.strerror)))
        ((code, text),) = said
        assert code == errno.ESTALE
        assert re.match(why, text)
        others = (b"etc/d", b"etc/e", b"etc/new")
        for other in others:
            with suppress(FileNotFoundError):
                core(tree).restore(other, along=others)
        assert seen(tree) == before


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"", errno.EINVAL),
        (b"/", errno.EINVAL),
        (b"etc/../old", errno.EINVAL),
        (b"none", errno.ENOENT),
        (b"none/beneath", errno.ENOENT),
        (b"etc/d/sub/none", errno.ENOENT),
    ],
)
def test_what_is_no_path_to_restore(tree: CoreDriver, path: bytes, code: int) -> None:
    assert errno_of(lambda: core(tree).restore(path)) == code


def test_nothing_is_restored_in_a_read_only_union(layers: Layers) -> None:
    with layers.union(**layers.read_only()) as tree:
        assert errno_of(lambda: core(tree).restore(b"old")) == errno.EROFS
