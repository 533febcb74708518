"""An upper that PyUnion or kernel overlayfs wrote, as the other reads it and goes on with it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conformance.tree import directory, file, hard_link, special, symlink
from tests.helpers import trees
from tests.helpers.calls import RENAME_EXCHANGE
from tests.helpers.drivers import OsDriver
from tests.helpers.layers import KERNEL_OPTIONS, HandmadeLayers
from tests.interop.views import look

Mount = Callable[[HandmadeLayers], AbstractContextManager[Path]]


def _fill(layers: HandmadeLayers) -> None:
    layers.layer(
        file("f", b"content" * 9000, mode=0o4755, uid=5, xattrs={"user.a": b"1"}),
        file("d/x", b"x of the top"),
        file("d/sub/z", b"z"),
        special("gone", stat.S_IFCHR),
        symlink("s", "f", uid=3),
        special("p", stat.S_IFIFO | 0o640),
    )
    layers.layer(
        directory("d", mode=0o750),
        file("d/x", b"x of the bottom"),
        file("d/w", b"w"),
        file("d/sub/q", b"q"),
        file("gone", b"deleted"),
        file("e/k", b"k"),
        file("low/deep/file", b"far down"),
        file("h1", b"one file of two names"),
        hard_link("h2", "h1"),
        file("big", b"0123456789" * 20_000, mode=0o644),
        file("big2", b"abcdefghij" * 20_000, mode=0o644),
    )


def _work(tree: OsDriver) -> None:
    """Leave a mark of every kind in the upper."""
    tree.write(b"f", 3, b"written")
    tree.chown(b"big", 1000, 1000)  # a metacopy, where that is on
    tree.rename(b"big", b"low/moved", 0)
    tree.chmod(b"big2", 0o600)
    tree.rename(b"d", b"m", 0)
    tree.rename(b"m/sub", b"m/tub", 0)
    tree.rename(b"low/deep", b"m/tub/deep", 0)
    tree.unlink(b"m/w")
    tree.append(b"m/tub/q", b" and more")
    tree.unlink(b"e/k")
    tree.rmdir(b"e")
    tree.mkdir(b"e", 0o700)  # opaque
    tree.create(b"e/new", 0o600)
    tree.create(b"gone", 0o600)
    tree.append(b"h1", b", changed")
    tree.link(b"h2", b"m/h3")
    tree.rename(b"s", b"m/s", 0)
    tree.rename(b"m/x", b"f", RENAME_EXCHANGE)
    tree.setxattr(b"m", "user.new", b"v", 0)
    tree.mkdir(b"low/fresh", 0o755)
    tree.chmod(b"p", 0o600)


def _go_on(tree: OsDriver) -> None:
    """Change again what `_work` left."""
    tree.rename(b"m", b"low/mm", 0)
    tree.write(b"low/moved", 0, b"the data is copied now")
    tree.append(b"h2", b", again")
    tree.unlink(b"h1")
    tree.rename(b"e", b"low/mm/e", 0)
    tree.unlink(b"low/mm/tub/z")
    tree.create(b"low/mm/tub/z", 0o644)
    tree.rmdir(b"low/fresh")
    tree.unlink(b"f")


def strict_kernel(layers: HandmadeLayers) -> AbstractContextManager[Path]:
    return layers.kernel()


def default_kernel(layers: HandmadeLayers) -> AbstractContextManager[Path]:
    return layers.kernel("redirect_dir=follow", defaults=())


def metacopy_kernel(layers: HandmadeLayers) -> AbstractContextManager[Path]:
    return layers.kernel("metacopy=on", defaults=())


def plain_union(layers: HandmadeLayers) -> AbstractContextManager[Path]:
    return layers.union()


def metacopy_union(layers: HandmadeLayers) -> AbstractContextManager[Path]:
    return layers.union("metacopy=on")


# Without the option an overlay reads no metacopies, and without the index it
# cannot know that links belong together.
PAIRS = [
    pytest.param(plain_union, strict_kernel, id="union-kernel"),
    pytest.param(metacopy_union, strict_kernel, id="metacopy_union-kernel"),
    pytest.param(strict_kernel, plain_union, id="kernel-union"),
    pytest.param(strict_kernel, metacopy_union, id="kernel-metacopy_union"),
    pytest.param(plain_union, plain_union, id="union-union"),
    pytest.param(strict_kernel, strict_kernel, id="kernel-kernel"),
]
LOOSE_PAIRS = [
    pytest.param(plain_union, default_kernel, id="union-default_kernel"),
    pytest.param(metacopy_union, metacopy_kernel, id="metacopy_union-metacopy_kernel"),
]


def _model(layers: HandmadeLayers) -> OsDriver:
    target = layers.base / "model"
    trees.merge_layers(layers.stack, target)
    (layers.base / "model").chmod(stat.S_IMODE(layers.upper.stat().st_mode))
    layers.upper.touch()
    return OsDriver(target)


def _seen(tree: trees.Tree) -> trees.Tree:
    """Leave out the times of what the test itself changed."""
    return {path: thing.without_time() for path, thing in tree.items()}


def _assert_shows(root: Path, wanted: trees.Tree, which: str) -> None:
    trees.assert_same(wanted, _seen(look(root, d_ino=False)), which)


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
def test_what_one_wrote_the_other_shows(
    layers: HandmadeLayers, writer: Mount, reader: Mount
) -> None:
    _fill(layers)
    model = _model(layers)
    _work(model)
    wanted = _seen(trees.snapshot(model))
    with writer(layers) as root:
        _work(OsDriver(root))
        _assert_shows(root, wanted, "in the writer")
    with reader(layers) as root:
        _assert_shows(root, wanted, "in the reader")


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
def test_what_one_wrote_the_other_goes_on_with(
    layers: HandmadeLayers, writer: Mount, reader: Mount
) -> None:
    _fill(layers)
    model = _model(layers)
    _work(model)
    _go_on(model)
    wanted = _seen(trees.snapshot(model))
    with writer(layers) as root:
        _work(OsDriver(root))
    with reader(layers) as root:
        _go_on(OsDriver(root))
        _assert_shows(root, wanted, "in the one that went on")
    with writer(layers) as root:
        _assert_shows(root, wanted, "back in the first")


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
def test_links_of_what_was_copied_up_in_a_lower_stay_one_file(
    layers: HandmadeLayers, writer: Mount, reader: Mount
) -> None:
    """What they are found by in the index is the inode they are links of, not what that copies."""
    layers.layer(directory("d"), file("a", b"data"))
    with layers.union() as root:
        (root / "a").chmod(0o600)
        (root / "d/b").hardlink_to(root / "a")
    layers.rotate()
    with writer(layers) as root:
        (root / "a").chmod(0o640)
    with reader(layers) as root:
        one, other = (root / "a").stat(), (root / "d/b").stat()
        assert (one.st_ino, one.st_nlink, one.st_mode & 0o777) == (other.st_ino, 2, 0o640)
        (root / "d/b").write_bytes(b"DATA")
        assert (root / "a").read_bytes() == b"DATA"


@pytest.mark.parametrize(("writer", "reader"), LOOSE_PAIRS)
def test_a_kernel_without_index_shows_all_but_link_groups(
    layers: HandmadeLayers, writer: Mount, reader: Mount
) -> None:
    _fill(layers)
    model = _model(layers)
    _work(model)
    wanted = _seen(trees.snapshot(model))
    with writer(layers) as root:
        _work(OsDriver(root))
    with reader(layers) as root:
        found = _seen(look(root, d_ino=False))
    links = {b"h1", b"h2", b"m/h3"}
    for path in links:
        del wanted[path], found[path]
    trees.assert_same(wanted, found, "in the reader")


def test_the_upper_of_a_kernel_with_userxattr(layers: HandmadeLayers) -> None:
    _userxattr_both_ways(layers, writer_is_kernel=True)


def test_the_kernel_with_userxattr_reads_our_upper(layers: HandmadeLayers) -> None:
    _userxattr_both_ways(layers, writer_is_kernel=False)


def _userxattr_both_ways(layers: HandmadeLayers, *, writer_is_kernel: bool) -> None:
    layers.layer(
        directory("o", xattrs={"user.overlay.opaque": b"y"}),
        file("o/new", b"n"),
        directory("t", xattrs={"trusted.overlay.opaque": b"y"}),  # of no meaning here
        special("gone", stat.S_IFCHR),
    )
    layers.layer(
        file("o/old", b"o"), file("t/shown", b"t"), file("gone", b"g"), file("d/x", b"x"), file("f")
    )

    def work(root: Path) -> None:
        (root / "f").write_text("written")
        (root / "d" / "x").unlink()
        (root / "d").rmdir()
        (root / "d").mkdir()
        (root / "d" / "y").write_text("y")
        (root / "gone").write_text("back")

    kernel = layers.kernel("userxattr", defaults=())
    union = layers.union("userxattr", "redirect_dir=off")
    first, second = (kernel, union) if writer_is_kernel else (union, kernel)
    with first as root:
        work(root)
        written = _seen(look(root))
    assert "user.overlay.opaque" in os.listxattr(layers.upper / "d")
    with second as root:
        found = _seen(look(root))
    assert set(found) == {b"", b"d", b"d/y", b"f", b"gone", b"o", b"o/new", b"t", b"t/shown"}
    trees.assert_same(written, found, "in the reader")


@pytest.mark.parametrize("options", [(), ("redirect_dir=on",), KERNEL_OPTIONS], ids=str)
def test_st_ino_is_the_same_in_both(layers: HandmadeLayers, options: tuple[str, ...]) -> None:
    layers.layer(file("f", b"f"), file("d/x", b"x"))
    layers.layer(file("d/y", b"y"))
    with layers.kernel(defaults=options) as root:
        (root / "f").chmod(0o600)
        kernel = {path: thing.ino for path, thing in look(root).items() if path}
    with layers.union() as root:
        union = {path: thing.ino for path, thing in look(root).items() if path}
    assert union == kernel
