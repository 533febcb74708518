"""Open directories of layers: few at a time, never through a link, never by a lost name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.descriptors import few_descriptors, make_deep
from tests.helpers.layers import Layers
from tests.helpers.unions import nodeid, open_fds, state
from unionfs.core.layer import Fd, FdCache, Layer, RealDir

UUID = bytes(16)


def a_layer(path: Path, capacity: int) -> Layer:
    fd = Fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
    return Layer(os.fsencode(path), fd, 0, path.stat().st_dev, 0, UUID, FdCache(capacity))


def chain(layer: Layer, *names: str) -> RealDir:
    real = layer.root
    for name in names:
        real = RealDir(layer, real, name.encode())
    return real


def test_an_fd_closes_with_its_last_reference(tmp_path: Path) -> None:
    before = open_fds()
    fd = Fd(os.open(tmp_path, os.O_RDONLY))
    assert open_fds() == before + 1
    del fd
    assert open_fds() == before


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    real = chain(a_layer(tmp_path, 10), "a", "b")
    assert real.path() == b"a/b"
    assert real.full_path() == os.fsencode(tmp_path / "a/b")
    assert os.fstat(real.fd()).st_ino == (tmp_path / "a/b").stat().st_ino


def test_no_more_than_the_capacity_is_open(tmp_path: Path) -> None:
    layer = a_layer(tmp_path, 5)
    reals = []
    for number in range(30):
        (tmp_path / str(number)).mkdir()
        reals.append(chain(layer, str(number)))
    before = open_fds()
    inos = [os.fstat(real.fd()).st_ino for real in reals]
    assert len(layer.fds) <= 6
    assert open_fds() <= before + 6
    assert inos == [(tmp_path / str(number)).stat().st_ino for number in range(30)]
    assert [os.fstat(real.fd()).st_ino for real in reals] == inos


def test_a_path_deeper_than_the_capacity(tmp_path: Path) -> None:
    names = [str(number) for number in range(12)]
    tmp_path.joinpath(*names).mkdir(parents=True)
    real = chain(a_layer(tmp_path, 3), *names)
    assert os.fstat(real.fd()).st_ino == tmp_path.joinpath(*names).stat().st_ino


def test_what_nobody_refers_to_is_not_kept_open(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    layer = a_layer(tmp_path, 1000)
    chain(layer, "a").fd()
    before = open_fds()
    for _ in range(200):
        chain(layer, "a").fd()
    assert open_fds() == before
    assert len(layer.fds) == 0


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(OSError, match="Stale"):
        chain(a_layer(tmp_path, 10), "link").fd()


def test_a_pinned_directory_outlives_its_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    layer = a_layer(tmp_path, 1)
    real = chain(layer, "a")
    real.pin(real.fd())
    (tmp_path / "a").rmdir()
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        chain(layer, str(number)).fd()
    assert os.fstat(real.fd()).st_nlink == 0


def test_a_union_works_with_one_open_directory(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"a": {"b": {"file": "1"}}, "c": {}}, {"a": {"b": {"low": "2"}}})
    with layers.union() as tree:
        state(tree).fds.capacity = 1
        tree.rename(b"a", b"c/moved", 0)
        tree.write(b"c/moved/b/low", 0, b"3")
        held = nodeid(tree, b"c/moved/b")
        tree.rename(b"c/moved", b"again", 0)
        tree.unlink(b"again/b/file")
        tree.unlink(b"again/b/low")
        tree.rmdir(b"again/b")
        assert tree.fs.getattr(held).st.st_size >= 0
        assert tree.listdir(b"again") == []
    assert set(layers.look()) == {b"", b"again", b"c"}


def test_a_way_longer_than_there_are_descriptors(tmp_path: Path) -> None:
    make_deep(tmp_path, b"d", 200)
    real = chain(a_layer(tmp_path, 5), *["d"] * 200)
    with few_descriptors(20):
        assert os.listdir(b"/proc/self/fd/%d" % real.fd()) == [b"end"]


def test_directories_are_closed_if_no_file_that_is_closed_makes_room(tmp_path: Path) -> None:
    """Another thread may be using the file, and close it later."""
    layer = a_layer(tmp_path, 100)
    for number in range(40):
        (tmp_path / str(number)).mkdir()
    kept = [chain(layer, str(number)) for number in range(40)]
    closed = [True]
    layer.fds.relief = lambda: bool(closed) and closed.pop()
    with few_descriptors(20):
        assert all(os.stat(real.fd()) for real in kept)
    assert not closed
