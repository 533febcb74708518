"""Which layers have their owners in attributes, and under which name."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.helpers.layers import Layers
from unionfs.core.config import OverrideStat
from unionfs.core.override import decode
from unionfs.core.override_format import CONTAINERS, LEGACY, PRIVILEGED, Override
from unionfs.errors import ConfigError

_NAMES = {OverrideStat.CONTAINERS: CONTAINERS, OverrideStat.PRIVILEGED: PRIVILEGED}


def test_a_type_that_the_real_file_cannot_stand_for() -> None:
    assert decode(b"1:2:0644:pipe", stat.S_IFREG).mode == stat.S_IFIFO | 0o644
    assert decode(b"1:2:0755", stat.S_IFDIR | 0o700).mode == stat.S_IFDIR | 0o755
    for value, mode in (
        (b"1:2:0755:dir", stat.S_IFREG),
        (b"1:2:0755:file", stat.S_IFDIR),
        (b"1:2:0777:symlink", stat.S_IFREG),
        (b"nonsense", stat.S_IFREG),
    ):
        with pytest.raises(OSError, match="says nothing") as caught:
            decode(value, mode)
        assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("form", _NAMES)
def test_the_root_of_a_new_upper_gets_the_attribute(form: OverrideStat, tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": ""})
    layers.upper.chmod(0o750)
    with layers.union(override=form) as tree:
        assert tree.lstat(b"").mode == stat.S_IFDIR | 0o755
        tree.mkdir(b"d", 0o711)
    assert os.getxattr(layers.upper, _NAMES[form]) == b"0:0:0755:dir"
    assert os.getxattr(layers.upper / "d", _NAMES[form]) == b"0:0:0711:dir"
    assert stat.S_IMODE((layers.upper / "d").stat().st_mode) == 0o750


@pytest.mark.parametrize("name", [CONTAINERS, LEGACY])
def test_a_lower_is_read_only_as_its_root_says(name: bytes, tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"marked": ""}, {"plain": ""})
    marked, plain = layers.lowers
    os.setxattr(marked, name, b"3:4:0705:dir")
    os.setxattr(marked / "marked", name, b"5:6:4711")
    os.setxattr(plain / "plain", name, b"5:6:4711")
    with layers.union(override=OverrideStat.CONTAINERS) as tree:
        assert tree.lstat(b"")[:3] == (stat.S_IFDIR | 0o705, 3, 4), "as the topmost lower's"
        assert tree.lstat(b"marked")[:3] == (stat.S_IFREG | 0o4711, 5, 6)
        assert tree.lstat(b"plain")[1:3] == (0, 0)
    with layers.union() as tree:
        assert tree.lstat(b"marked")[1:3] == (0, 0), "nobody asked for the attributes"


def test_an_upper_of_an_old_fuse_overlayfs_goes_on_as_it_is(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": ""})
    os.setxattr(layers.upper, LEGACY, b"0:0:555")
    with layers.union(override=OverrideStat.CONTAINERS) as tree:
        tree.chown(b"file", 8, 9)
        assert tree.listxattr(b"file") == []
    assert os.getxattr(layers.upper / "file", LEGACY).startswith(b"8:9:")
    assert CONTAINERS.decode() not in os.listxattr(layers.upper / "file")


def test_an_upper_that_cannot_have_the_attribute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user may not set the privileged one."""
    layers = Layers(tmp_path, {"file": ""})
    setxattr = os.setxattr

    def refuse(path: int | bytes, name: bytes | str, *rest: object, **more: object) -> None:
        if name == PRIVILEGED:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        setxattr(path, name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "setxattr", refuse)
    with (
        pytest.raises(ConfigError, match=r"not permitted.*use xattr_permissions=2"),
        layers.union(override=OverrideStat.PRIVILEGED),
    ):
        pass


def test_what_is_stored_is_what_containers_storage_writes(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    with layers.union(override=OverrideStat.CONTAINERS) as tree:
        tree.mknod(b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        tree.mknod(b"fifo", stat.S_IFIFO | 0o640, 0)
    for name, kind in (("null", "char-1-3"), ("fifo", "pipe")):
        real = layers.upper / name
        assert stat.S_ISREG(real.stat().st_mode) and not real.stat().st_size
        value = os.getxattr(real, CONTAINERS)
        assert value.endswith(b":" + kind.encode())
        assert Override.decode(value) is not None
