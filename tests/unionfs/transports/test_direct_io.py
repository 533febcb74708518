"""Asynchronous direct writes beside readers through the cache: xfstests generic/451."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.tree import file
from tests.helpers.aio import AsynchronousWriter
from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.layers import HandmadeLayers
from tests.helpers.mounts import mounted, require_fuse, require_root

SIZE = 640 << 10
ROUNDS = 40


@pytest.fixture(params=["plain", "uring off", "uring on", "passthrough", "pyfuse3"])
def root(request: pytest.FixtureRequest, layers: HandmadeLayers) -> Iterator[Path]:
    require_root()
    require_fuse()
    layers.layer(file("file", b"0" * SIZE))
    if request.param == "plain":
        with tempfile.TemporaryDirectory(dir=layers.base) as directory:
            yield Path(directory)
        return
    if request.param == "pyfuse3":
        pytest.importorskip("pyfuse3")
        words = ["transport=pyfuse3"]
    else:
        words = ["passthrough=" + ("on" if request.param == "passthrough" else "off")]
        words.append("io_uring=" + ("on" if request.param == "uring on" else "off"))
    uring = io_uring_enabled() if request.param == "uring on" else contextlib.nullcontext()
    with uring, mounted(layers.stack, layers.upper, layers.work, words) as mount:
        yield mount


def test_readers_see_what_was_written(root: Path) -> None:
    """A page that is read while the write is under way is not kept with the old data."""
    path = root / "file"
    path.write_bytes(b"0" * SIZE)
    over = threading.Event()

    def read() -> None:
        fd = os.open(path, os.O_RDONLY)
        while not over.is_set():
            for offset in range(0, SIZE, 64 << 10):
                os.pread(fd, 4096, offset)
        os.close(fd)

    reader = threading.Thread(target=read)
    reader.start()
    fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
    writer = AsynchronousWriter(fd, SIZE)
    try:
        for number in range(ROUNDS):
            writer.write(ord("a") + number % 26)
            wanted = bytes([ord("a") + number % 26]) * SIZE
            assert path.read_bytes() == wanted, f"stale in round {number}"
    finally:
        over.set()
        reader.join()
        writer.close()
        os.close(fd)
