"""Who connects to a socket: a process of this machine, or one of a container."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mount_tools.daemon.peers import is_stranger
from tests.helpers.children import spawn, wait
from tests.helpers.mounts import require_root
from unionfs.syscalls.namespaces import CLONE_NEWPID, unshare


@pytest.mark.parametrize("namespace", [True, False], ids=["namespace", "here"])
@pytest.mark.parametrize("root", [True, False], ids=["root", "ours"])
def test_a_stranger_has_another_root_and_pid_namespace(
    tmp_path: Path, namespace: bool, root: bool
) -> None:
    require_root()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(os.fspath(tmp_path / "socket"))
        listener.listen()

        def connect() -> None:
            if root:
                os.chroot(tmp_path)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
                connection.connect("/socket" if root else os.fspath(tmp_path / "socket"))
                connection.recv(1)

        def outer() -> None:
            if namespace:
                unshare(CLONE_NEWPID)
            assert wait(spawn(connect)) == 0

        child = spawn(outer)
        connection, _ = listener.accept()
        with connection:
            found = is_stranger(connection)
        assert wait(child) == 0
    assert found is (namespace and root)


def test_a_peer_that_has_ended_is_a_stranger(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(tmp_path / "socket"))
        listener.listen()

        def connect() -> None:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(os.fspath(tmp_path / "socket"))
            os._exit(0)

        assert wait(spawn(connect)) == 0
        with listener.accept()[0] as connection:
            assert is_stranger(connection)
