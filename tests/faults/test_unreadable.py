"""Layers and workdirs that are not as they should be: an error where it hurts, and no more."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conformance.tree import directory, file, hard_link
from tests.helpers import trees
from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import HandmadeLayers
from tests.helpers.mounts import mounted, mounted_union, require_root
from tests.helpers.security import GROUP_ID, USER_ID, run_as
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union


@contextmanager
def fails(*codes: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno in codes, caught.value


@contextmanager
def suppress_errno(*codes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in codes:
            raise


def test_garbage_in_the_index_is_passed_over(layers: HandmadeLayers) -> None:
    layers.layer(file("h1", b"one file"), hard_link("h2", "h1"), file("f", b"f"))
    index = layers.work / "index"
    index.mkdir()
    (index / "garbage").write_text("?")
    (index / ("00fb" + "zz" * 20)).touch()
    (index / ("00fb1d0001" + "00" * 24)).mkdir()
    (index / "00").symlink_to("nowhere")
    (index / os.fsdecode(b"\xff" * 200)).touch()
    with layers.union() as root:
        (root / "h1").write_text("changed")
        assert (root / "h2").read_text() == "changed"
        (root / "f").write_text("changed")
    with layers.union() as root:
        assert (root / "h2").read_text() == "changed"


@pytest.mark.parametrize("content", [b"", b"U", b"U+", b"U+99999999999", b"L-1", b"\xff\0"])
def test_a_malformed_link_count(layers: HandmadeLayers, content: bytes) -> None:
    layers.layer(file("h1", b"one file"), hard_link("h2", "h1"))
    with layers.union() as root:
        (root / "h1").write_text("changed")
    os.setxattr(layers.upper / "h1", "trusted.overlay.nlink", content)
    with mounted(layers.stack, layers.upper, layers.work) as root:
        assert (root / "h2").read_text() == "changed"
        assert os.stat(root / "h1").st_nlink > 0


def test_an_index_entry_that_is_a_directory(layers: HandmadeLayers) -> None:
    layers.layer(file("h1", b"one file"), hard_link("h2", "h1"), file("good", b"g"))
    with layers.union() as root:
        (root / "h1").write_text("changed")
    (entry,) = (layers.work / "index").iterdir()
    entry.unlink()
    entry.mkdir()
    with mounted_union(layers.stack, layers.upper, layers.work, quiet=False) as union:
        for name in ("h1", "h2"):
            with suppress_errno(errno.EIO, errno.ESTALE):
                assert (union.root / name).read_text() in ("one file", "changed")
        assert (union.root / "good").read_text() == "g"
        assert "Traceback" not in union.log()


def test_leftovers_of_a_crash_are_swept(layers: HandmadeLayers) -> None:
    layers.layer(file("f", b"f"))
    staging = layers.work / "work"
    (staging / "#1" / "deep" / "tree").mkdir(parents=True)
    (staging / "#1" / "file").write_text("half")
    os.mknod(staging / "#2", stat.S_IFCHR)
    (staging / "dangling").symlink_to("/nonexistent")
    (staging / "#1" / "deep").chmod(0)
    with layers.union() as root:
        (root / "f").write_text("changed")
        assert os.listdir(root) == ["f"]
    assert trees.leftovers(layers.work) == []
    assert (layers.upper / "f").read_text() == "changed"


def test_a_lower_that_vanishes(layers: HandmadeLayers) -> None:
    layers.layer(file("top/f", b"t"))
    layers.layer(file("bottom/seen", b"s"), file("bottom/sub/f", b"f"), file("big", b"b"))
    with mounted_union(layers.stack, layers.upper, layers.work, quiet=False) as union:
        root = union.root
        assert (root / "bottom" / "seen").read_text() == "s"
        shutil.rmtree(layers.stack.pop())
        layers.frozen.clear()
        gone = (errno.ENOENT, errno.EIO, errno.ESTALE)
        with fails(*gone):
            (root / "bottom" / "sub" / "f").read_text()
        with fails(*gone):
            (root / "big").write_text("x")
        with fails(*gone):
            os.chmod(root / "big", 0o600)
        assert (root / "top" / "f").read_text() == "t"
        (root / "top" / "new").write_text("works")
        assert (root / "top" / "new").read_text() == "works"
        assert "Traceback" not in union.log()
    assert trees.leftovers(layers.work) == []


def test_a_lower_file_that_turns_into_something_else(layers: HandmadeLayers) -> None:
    lower = layers.layer(file("f", b"f"), file("d/x", b"x"), file("good", b"g"))
    with mounted_union(layers.stack, layers.upper, layers.work, quiet=False) as union:
        root = union.root
        assert sorted(os.listdir(root)) == ["d", "f", "good"]
        (lower / "f").unlink()
        (lower / "f").mkdir()
        shutil.rmtree(lower / "d")
        (lower / "d").symlink_to("/etc")
        layers.frozen.clear()
        for path in ("f", "d/x", "d/hosts"):
            with fails(
                errno.EIO, errno.ENOENT, errno.ESTALE, errno.EISDIR, errno.ENOTDIR, errno.ELOOP
            ):
                (root / path).read_text()
        assert (root / "good").read_text() == "g"
        assert "Traceback" not in union.log()


def test_an_ordinary_user_meets_unreadable_files(tmp_path: Path) -> None:
    """The core runs with the rights of an ordinary user on a tree that the user owns."""
    require_root()
    layers = HandmadeLayers(tmp_path)
    lower = layers.layer(
        file("secret", b"s", mode=0o000),
        directory("closed", mode=0o000),
        file("closed/f", b"f"),
        file("open", b"o"),
    )
    for path in trees.walk(os.fsencode(tmp_path)):
        os.chown(path, USER_ID, GROUP_ID, follow_symlinks=False)
    for folder in (tmp_path, *tmp_path.parents):
        if stat.S_IMODE(folder.stat().st_mode) & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    foreign = lower / "foreign"
    foreign.mkdir(mode=0o700)  # of root: not even its names may be read
    (foreign / "f").write_text("root's")

    def work() -> None:
        union = open_union(
            UnionConfig(
                lowers=(os.fsencode(lower),),
                upper=os.fsencode(layers.upper),
                work=os.fsencode(layers.work),
                userxattr=True,
            )
        )
        tree = CoreDriver(union)
        try:
            for path in (b"secret", b"foreign/f"):
                with fails(errno.EACCES, errno.EPERM, errno.EIO):
                    tree.read(path)
                with fails(errno.EACCES, errno.EPERM, errno.EIO):
                    tree.write(path, 0, b"x")
            assert tree.read(b"open") == b"o"
            tree.write(b"open", 0, b"w")
            tree.unlink(b"secret")
            assert b"secret" not in {entry.name for entry in tree.listdir(b"")}
            tree.finish()
        finally:
            union.close()

    run_as(work)
    assert trees.leftovers(layers.work) == []
