"""Something else in the place of a file of a layer, put there past the union: it never blocks."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore.layer.index import digest_file
from tests.helpers.layers import Layers
from tests.helpers.unions import core, errno_of, nodeid
from unionfs.core.layer import open_regular, open_untouched
from unionfs.core.whiteout import make_aufs_whiteout

# Opening a fifo, or a terminal without a carrier, would block for good.
pytestmark = pytest.mark.timeout(30)

BIG = "data " * 10_000

SWAPS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5)),  # zero
    "file": lambda path: path.write_text("another"),
}


@pytest.fixture(params=SWAPS)
def swap(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Put something else, of that kind, in the place of a file."""
    make = SWAPS[request.param]

    def swapped(path: Path) -> None:
        path.rename(path.with_name("aside"))
        make(path)

    return swapped


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_a_lower_file_that_became_something_else_is_stale(
    tmp_path: Path, swap: Callable[[Path], None], flags: int
) -> None:
    layers = Layers(tmp_path, {"file": BIG})
    with layers.union(lowers_change=True) as tree:
        node = nodeid(tree, b"file")
        swap(layers.lowers[0] / "file")
        assert errno_of(lambda: tree.fs.open(node, flags)) == errno.ESTALE


def test_a_small_file_that_became_something_else_is_not_given(
    tmp_path: Path, swap: Callable[[Path], None]
) -> None:
    layers = Layers(tmp_path, {"file": "content"})  # as long as what "file" puts there
    with layers.union(lowers_change=True) as tree:
        node = nodeid(tree, b"file")
        swap(layers.lowers[0] / "file")
        opened = core(tree).open_small(node, os.O_RDONLY, True)
        assert opened is not None
        assert opened[2] is None
        core(tree).release(opened[0])


def test_data_of_a_metacopy_that_became_a_fifo_is_stale(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": BIG})
    with layers.union(lowers_change=True, metacopy=True) as tree:
        tree.chmod(b"file", 0o600)
        node = nodeid(tree, b"file")
        (layers.lowers[0] / "file").unlink()
        os.mkfifo(layers.lowers[0] / "file")
        assert errno_of(lambda: tree.fs.open(node, os.O_RDONLY)) == errno.ESTALE
        assert errno_of(lambda: tree.fs.open(node, os.O_RDWR)) == errno.ESTALE


@pytest.mark.parametrize(
    "opener",
    [
        open_regular,
        open_untouched,
        lambda name, fd: open_regular(name, fd, os.O_WRONLY),
    ],
    ids=["regular", "untouched", "to-write"],
)
def test_no_fifo_is_opened_for_a_file(
    tmp_path: Path, opener: Callable[[bytes, int], object]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path, os.O_RDONLY)
    assert errno_of(lambda: opener(b"fifo", fd)) in (errno.ESTALE, errno.ENXIO)
    os.close(fd)


def test_no_fifo_is_read_for_the_digest_of_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert errno_of(lambda: digest_file(os.fsencode(tmp_path / "fifo"))) == errno.ESTALE


def test_a_fifo_in_the_place_of_a_note_of_ours_does_not_block(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "text"})
    os.mkfifo(layers.work / "lostlinks")
    with layers.union() as tree:
        assert tree.read(b"file") == b"text"
    os.mkfifo(layers.upper / ".wh.file")
    fd = os.open(layers.upper, os.O_RDONLY)
    assert errno_of(lambda: make_aufs_whiteout(fd, b"file")) == errno.ENXIO
    os.close(fd)
