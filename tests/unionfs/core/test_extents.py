"""Holes, allocation and copies of open files, by the core's own handles."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.helpers.layers import Layers
from tests.helpers.unions import core, errno_of, nodeid


def test_a_range_is_copied_and_a_reader_may_not_be_written_to(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"source": "0123456789", "target": ""})
    with layers.union() as tree:
        fs = core(tree)
        reader = fs.open(nodeid(tree, b"source"), os.O_RDONLY)
        writer = fs.open(nodeid(tree, b"target"), os.O_RDWR)
        assert fs.copy_range(reader, 2, writer, 0, 5) == 5
        assert errno_of(lambda: fs.copy_range(writer, 0, reader, 0, 5)) == errno.EBADF
        assert errno_of(lambda: fs.fallocate(reader, 0, 0, 4096)) == errno.EBADF
        fs.fallocate(writer, 0, 0, 8192)
        assert fs.lseek(writer, 0, os.SEEK_DATA) == 0
        assert errno_of(lambda: fs.lseek(writer, 8192, os.SEEK_DATA)) == errno.ENXIO
        fs.release(reader)
        fs.release(writer)
    assert (layers.upper / "target").read_bytes() == b"23456".ljust(8192, b"\0")
