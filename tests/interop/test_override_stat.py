"""Owners and modes in attributes: fuse-overlayfs reads ours, and we read those of it."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.layers import Layers
from tests.helpers.mounts import layer_options, mount_type, mounted, require_fuse, run, wait_until

_WORDS = "xattr_permissions=2"


@contextmanager
def _fuse_overlayfs(layers: Layers, *, writes: bool) -> Iterator[Path]:
    if not shutil.which("fuse-overlayfs"):
        pytest.skip("fuse-overlayfs is not installed")
    root = layers.base / "theirs"
    root.mkdir()
    words = layer_options(*_stack(layers, writes=writes)) + f",{_WORDS}".encode()
    run("fuse-overlayfs", "-o", words, root)
    try:
        wait_until(lambda: mount_type(root) is not None, "fuse-overlayfs to mount")
        yield root
    finally:
        run("umount", root)
        root.rmdir()


@contextmanager
def _pyunion(layers: Layers, *, writes: bool) -> Iterator[Path]:
    with mounted(*_stack(layers, writes=writes), [_WORDS]) as root:
        yield root


def _stack(layers: Layers, *, writes: bool) -> tuple[list[Path], Path | None, Path | None]:
    """Return lowers, upper and workdir; what is only read is all lowers, as an engine's layers."""
    if writes:
        return layers.lowers, layers.upper, layers.work
    return [layers.upper, *layers.lowers], None, None


def _change(root: Path) -> None:
    # In this order: a chmod in fuse-overlayfs 1.10 makes the daemon the owner.
    os.chmod(root / "given", 0o751)
    os.chown(root / "given", 3, 4)
    (root / "new").write_text("new")
    os.chown(root / "new", 5, 6)
    (root / "dir").mkdir()
    os.chmod(root / "dir", 0o1770)
    os.chown(root / "dir", 7, 8)


def _seen(root: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for path in root.rglob("*"):
        st = path.lstat()
        found[path.name] = (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid)
    return found


@pytest.mark.parametrize(
    ("writer", "reader"), [(_pyunion, _fuse_overlayfs), (_fuse_overlayfs, _pyunion)]
)
def test_the_one_reads_what_the_other_wrote(writer, reader, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    require_fuse()
    layers = Layers(tmp_path, {"given": "lower", "kept": "kept"})
    with writer(layers, writes=True) as root:
        _change(root)
        wanted = _seen(root)
    assert wanted["given"] == (0o751, 3, 4)
    assert (layers.upper / "given").stat().st_uid == 0
    with reader(layers, writes=False) as root:
        assert _seen(root) == wanted
