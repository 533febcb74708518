"""chattr's flags through the union: those of the visible file, changed in the upper alone."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.unions import core, errno_of, nodeid
from unionfs.core.fileattr import (
    FS_IOC_FSGETXATTR,
    FS_IOC_FSSETXATTR,
    FS_IOC_GETFLAGS,
    FS_IOC_SETFLAGS,
)

# chattr +d, in both forms (linux/fs.h).
FS_NODUMP_FL = 0x40
FS_XFLAG_NODUMP = 0x80


def plain(path: Path, command: int, size: int) -> bytes:
    """Return what the filesystem itself answers."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return fcntl.ioctl(fd, command, bytes(size))
    finally:
        os.close(fd)


def asked(tree: CoreDriver, path: bytes, command: int, data: bytes = b"") -> bytes:
    return core(tree).fileattr(nodeid(tree, path), command, data)


def flags(answer: bytes) -> int:
    return int(struct.unpack_from("=I", answer)[0])


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    made = Layers(tmp_path / "layers", {"f": "content", "d": {"g": "x"}})
    try:
        plain(made.lowers[0] / "f", FS_IOC_GETFLAGS, 4)
    except OSError as error:
        pytest.skip(f"this filesystem has no flags: {error.strerror}")
    return made


@pytest.mark.parametrize("name", ["f", "d"])
@pytest.mark.parametrize(("command", "size"), [(FS_IOC_GETFLAGS, 4), (FS_IOC_FSGETXATTR, 28)])
def test_flags_of_a_lower_are_read(layers: Layers, name: str, command: int, size: int) -> None:
    with layers.union() as tree:
        wanted = plain(layers.lowers[0] / name, command, size)
        assert asked(tree, name.encode(), command) == wanted
    assert os.listdir(layers.upper) == [], "reading copied nothing up"


@pytest.mark.parametrize("name", ["f", "d"])
def test_flags_are_set_in_the_upper(layers: Layers, name: str) -> None:
    path = name.encode()
    with layers.union() as tree:
        wanted = flags(asked(tree, path, FS_IOC_GETFLAGS)) | FS_NODUMP_FL
        assert asked(tree, path, FS_IOC_SETFLAGS, struct.pack("=I", wanted)) == b""
        assert flags(asked(tree, path, FS_IOC_GETFLAGS)) == wanted
    assert flags(plain(layers.upper / name, FS_IOC_GETFLAGS, 4)) & FS_NODUMP_FL
    assert not flags(plain(layers.lowers[0] / name, FS_IOC_GETFLAGS, 4)) & FS_NODUMP_FL


def test_the_extended_form_sets_the_same_flags(layers: Layers) -> None:
    with layers.union() as tree:
        data = bytearray(asked(tree, b"f", FS_IOC_FSGETXATTR))
        struct.pack_into("=I", data, 0, flags(bytes(data)) | FS_XFLAG_NODUMP)
        assert asked(tree, b"f", FS_IOC_FSSETXATTR, bytes(data) + b"more than is asked for") == b""
        assert flags(asked(tree, b"f", FS_IOC_GETFLAGS)) & FS_NODUMP_FL


@pytest.mark.parametrize(("command", "size"), [(FS_IOC_SETFLAGS, 3), (FS_IOC_FSSETXATTR, 27)])
def test_an_argument_that_is_too_short(layers: Layers, command: int, size: int) -> None:
    with layers.union() as tree:
        assert errno_of(lambda: asked(tree, b"f", command, bytes(size))) == errno.EINVAL
    assert os.listdir(layers.upper) == [], "it was refused before the copy-up"


def test_other_commands_are_not_known(layers: Layers) -> None:
    tcgets = 0x5401
    with layers.union() as tree:
        assert errno_of(lambda: asked(tree, b"f", tcgets, bytes(64))) == errno.ENOTTY


@pytest.mark.parametrize("path", [b"link", b"fifo"])
@pytest.mark.parametrize("command", [FS_IOC_GETFLAGS, FS_IOC_SETFLAGS])
def test_only_regular_files_and_directories_have_flags(
    layers: Layers, command: int, path: bytes
) -> None:
    (layers.lowers[0] / "link").symlink_to("f")
    os.mkfifo(layers.lowers[0] / "fifo")
    with layers.union() as tree:
        assert errno_of(lambda: asked(tree, path, command, bytes(4))) == errno.ENOTTY


def test_a_read_only_union_refuses_to_set_flags(layers: Layers) -> None:
    with layers.union(**layers.read_only()) as tree:
        assert asked(tree, b"f", FS_IOC_GETFLAGS)
        assert errno_of(lambda: asked(tree, b"f", FS_IOC_SETFLAGS, bytes(4))) == errno.EROFS
