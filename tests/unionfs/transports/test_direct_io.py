"""Asynchronous direct writes beside readers through the cache: xfstests generic/451."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.tree import file
from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.layers import HandmadeLayers
from tests.helpers.mounts import mounted, require_fuse, require_root

SIZE = 640 << 10
ROUNDS = 40

# linux/aio_abi.h, asm/unistd_64.h
_IO_SETUP, _IO_DESTROY, _IO_GETEVENTS, _IO_SUBMIT = {"x86_64": (206, 207, 208, 209)}.get(
    os.uname().machine, (0, 1, 4, 2)
)
_PWRITE = 1
_IOCB = struct.Struct("=QIiHhIQQqQII")
_EVENT = struct.Struct("=QQqq")

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def call(number: int, *arguments: object) -> int:
    result = int(_syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "of a system call for asynchronous i/o")
    return result


class AsynchronousWriter:
    """Writes pages to a file by io_submit(2)."""

    def __init__(self, fd: int) -> None:
        self.buffer = mmap.mmap(-1, SIZE)
        self._fd = fd
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        self._context = ctypes.c_ulong()
        call(_IO_SETUP, 1, ctypes.byref(self._context))

    def close(self) -> None:
        call(_IO_DESTROY, self._context)

    def write(self, byte: int) -> None:
        """Fill the file with `byte`; return when that is done."""
        ctypes.memset(self._address, byte, SIZE)
        fields = (0, 0, 0, _PWRITE, 0, self._fd, self._address, SIZE, 0, 0, 0, 0)
        iocb = ctypes.create_string_buffer(_IOCB.pack(*fields))
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(iocb))
        assert call(_IO_SUBMIT, self._context, ctypes.c_long(1), pointers) == 1
        event = ctypes.create_string_buffer(_EVENT.size)
        one = ctypes.c_long(1)
        assert call(_IO_GETEVENTS, self._context, one, one, event, None) == 1
        assert _EVENT.unpack(event.raw)[2] == SIZE


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
    writer = AsynchronousWriter(fd)
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
