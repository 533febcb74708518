"""Files that are open in directories which keep even their owner out, after a freeze."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.as_user import NOBODY
from tests.helpers.core_driver import CoreDriver
from tests.helpers.mounts import require_root
from tests.helpers.unions import errno_of, nodeid, state
from tests.unionfs.core.test_owner_rights import as_nobody
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union

NAMES = (b"d/new", b"d/kept", b"d/sub/deep", b"d/hard", b"d/zero")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("mode", [0o700, 0o600, 0o200, 0o000])
@pytest.mark.parametrize("closed", ["before", "after"])
def test_what_is_open_for_reading_goes_on(mode: int, closed: str) -> None:
    """Its descriptor is closed for want of room, `closed` the freeze."""
    require_root()
    with tempfile.TemporaryDirectory(prefix="unionfs-test-") as made:
        base = Path(made)
        base.chmod(0o755)
        for name in ("lower/d", "upper", "work", "to"):
            (base / name).mkdir(parents=True)
        (base / "lower/d/kept").write_text("d/kept")
        (base / "lower/d/kept").chmod(0o600)
        for path in (base, *base.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        as_nobody(partial(_read_on, mode, closed), base)
        assert stat.S_IMODE((base / "to/frozen/d").stat().st_mode) == mode


def _read_on(mode: int, closed: str, base: int) -> None:
    os.fchdir(base)
    fs = open_union(UnionConfig(lowers=(b"lower",), upper=b"upper", work=b"work"))
    tree = CoreDriver(fs)
    tree.mkdir(b"d/sub", 0o755)
    for name in NAMES:
        if name != b"d/kept":
            tree.create(name, 0o600)
        tree.write(name, 0, name)
        tree.setxattr(name, "user.a", name, 0)
    tree.link(b"d/hard", b"other")
    nodes = {name: nodeid(tree, name) for name in NAMES}
    opened = {name: fs.open(node, os.O_RDONLY) for name, node in nodes.items()}
    again = {name: fs.open(node, os.O_RDONLY) for name, node in nodes.items()}
    tree.chmod(b"d/zero", 0)
    tree.chmod(b"d", mode)
    for when in ("before", "after"):
        if when == "after":
            fs.freeze(b"to/frozen")
        if closed == when:
            state(tree).fds.relief()
    for name, fh in opened.items():
        fs.release(again[name])
        state(tree).fds.relief()
        assert fs.read(fh, 0, 100) == name
        for handle in (fh, None):
            found = fs.getattr(nodes[name], handle).st
            assert found.st_size == len(name)
            assert stat.S_IMODE(found.st_mode) == (0 if name == b"d/zero" else 0o600)
        if name != b"d/zero":  # which takes the right to read the file, at any time
            assert fs.getxattr(nodes[name], b"user.a") == name
        assert fs.listxattr(nodes[name]) == [b"user.a"]
        state(tree).fds.relief()
        assert fs.read(fh, 1, 100) == name[1:]
    state(tree).fds.relief()
    before = descriptors()
    for fh in opened.values():
        fs.release(fh)
    if not mode & 0o100:
        assert descriptors() <= before - len(NAMES)
        assert errno_of(partial(fs.open, nodes[b"d/new"], os.O_RDONLY)) == errno.EACCES
    fs.close()
