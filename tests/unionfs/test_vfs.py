"""What the union offers to the transports."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.helpers.layers import Layers
from tests.helpers.unions import core, errno_of, nodeid
from unionfs.core.union import UnionFs
from unionfs.types import ROOT_NODEID, Fh, NodeId
from unionfs.vfs import TOUCH, DirectFilesystem, Filesystem, Notifier

pytestmark = pytest.mark.usefixtures("as_root")


def methods(protocol: type) -> set[str]:
    """Return the names of the methods that `protocol` declares."""
    return {name for name, what in vars(protocol).items() if callable(what) and name[0] != "_"}


def test_the_union_has_every_method() -> None:
    for protocol in (Filesystem, DirectFilesystem):
        declared = methods(protocol)
        assert declared
        assert {name for name in declared if not callable(getattr(UnionFs, name, None))} == set()
    assert methods(Notifier) == {"forget_attributes", "forget_inode", "forget_name"}


def test_only_a_move_that_copies_up_is_slow(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"lower": "x" * 100_000})
    with layers.union() as tree:
        fs = core(tree)
        tree.create(b"upper", 0o644)
        assert nodeid(tree, b"lower")
        assert fs.slow_rename(ROOT_NODEID, b"lower")
        assert not fs.slow_rename(ROOT_NODEID, b"upper")
        assert not fs.slow_rename(ROOT_NODEID, b"absent")
        assert not list(layers.upper.glob("lower")), "nothing is copied up by asking"


def test_a_change_of_times_copies_up(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "content"})
    with layers.union() as tree:
        number = nodeid(tree, b"file")
        assert core(tree).slow_setattr(number, TOUCH)
        core(tree).setattr(number, TOUCH, None)
        assert not core(tree).slow_setattr(number, TOUCH)
        assert (layers.upper / "file").stat().st_mtime_ns == 0


def test_numbers_that_were_never_given_are_errors(tmp_path: Path) -> None:
    with Layers(tmp_path, {}).union() as tree:
        fs = core(tree)
        assert errno_of(lambda: fs.getattr(NodeId(1 << 40))) == errno.ESTALE
        assert errno_of(lambda: fs.lookup(NodeId(1 << 40), b"name")) == errno.ESTALE
        assert errno_of(lambda: fs.write(Fh(NodeId(1 << 40)), 0, b"data")) == errno.EBADF
