"""A process with a root and a PID namespace of its own, as those of a container have."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.helpers.children import spawn, wait
from unionfs.syscalls.namespaces import CLONE_NEWPID, unshare


def ask_as_a_stranger(path: Path, kind: socket.SocketKind, data: bytes) -> bytes:
    """Send `data` to the socket `path`; return the answer, b"" if there is none."""
    reading, writing = os.pipe()

    def ask() -> None:
        os.chroot(path.parent)
        with socket.socket(socket.AF_UNIX, kind) as connection:
            connection.connect(f"/{path.name}")
            try:
                connection.sendall(data)
                os.write(writing, connection.recv(1 << 16))
            except ConnectionError:
                pass

    def outer() -> None:
        unshare(CLONE_NEWPID)
        assert wait(spawn(ask)) == 0

    try:
        assert wait(spawn(outer)) == 0
        os.close(writing)
        writing = -1
        return os.read(reading, 1 << 16)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
