"""The control socket of a live mount: who is served, and what cannot harm it."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from layerstore.containers.control_client import NoMount, ask
from layerstore.containers.control_protocol import (
    GetStatus,
)
from layerstore.errors import Busy
from mount_tools.daemon import control_server
from mount_tools.daemon.control_server import ControlServer, Say
from mount_tools.daemon.control_socket import listen
from tests.helpers.layers import Layers
from tests.helpers.mounts import DEADLINE, Union
from tests.helpers.strangers import ask_as_a_stranger


def test_only_its_owner_may_ask(union: Union, path: Path) -> None:
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600


def test_a_process_of_a_container_is_not_answered(union: Union, path: Path) -> None:
    """A container in which the store is bound reaches it, and its root is user 0."""
    assert ask_as_a_stranger(path, socket.SOCK_STREAM, b'{"command": "status"}\n') == b""
    assert ask(path, GetStatus()).pid == union.pid


def test_the_server_ends_with_the_mount(union: Union, path: Path) -> None:
    union.unmount()
    assert not path.exists()
    with pytest.raises(NoMount):
        ask(path, GetStatus())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"[]\n",
        b"{}\n",
        b"\xff\xfe\n",
        b'{"command": 1}\n',
        b'{"command": "dance"}\n',
        b'{"command": "status", "nan": NaN}\n',
        b'{"command": "freeze", "upper_to": "/\\ud800"}\n',
        b"[" * 60_000 + b"\n",
    ],
)
def test_nonsense_costs_only_itself(union: Union, path: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(os.fspath(path))
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").readline()
    assert not answer or json.loads(answer)["ok"] is False
    assert ask(path, GetStatus()).pid == union.pid


def test_a_line_too_long_to_wait_in_is_a_busy_mount(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(os.fspath(path))
        listener.listen(0)
        first.connect(os.fspath(path))
        with pytest.raises(Busy):
            ask(path, GetStatus())
        with pytest.raises(OSError, match="in use"):
            listen(os.fspath(path))


class Pausing:
    """A carrier of requests that waits inside one until it may go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def answer(self, _uid: int, line: bytes, _say: Say) -> bytes:
        self.begun.set()
        assert self.go_on.wait(DEADLINE)
        return line + b"\n"


def asked(path: Path, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(os.fspath(path))
        if line:
            connection.sendall(line)
        with connection.makefile("rb") as answer:
            return answer.readline()


def test_descriptors_that_run_out_end_nothing(tmp_path: Path) -> None:
    refusals = [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED]

    class Refusing(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            if refusals:
                number = refusals.pop()
                raise OSError(number, os.strerror(number))
            return super().accept()

    with listen(os.fspath(tmp_path / "control")) as listener:
        refusing = Refusing(fileno=listener.detach())
    server = ControlServer(refusing, lambda: lambda _uid, line, _say: line + b"\n")
    assert asked(tmp_path / "control", b"hello\n") == b"hello\n"
    server.close()
    assert not refusals


def test_its_end_waits_for_what_is_carried_out_and_for_no_client(tmp_path: Path) -> None:
    pausing = Pausing()
    server = ControlServer(listen(os.fspath(tmp_path / "control")), lambda: pausing.answer)
    with (
        ThreadPoolExecutor(2) as pool,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent,
    ):
        silent.connect(os.fspath(tmp_path / "control"))
        answer = pool.submit(asked, tmp_path / "control", b"freeze\n")
        assert pausing.begun.wait(DEADLINE)
        end = pool.submit(server.close)
        with pytest.raises(ConnectionRefusedError):
            while True:
                with suppress(ConnectionResetError):  # it was in the queue of the socket
                    asked(tmp_path / "control", b"too late\n")
        assert not end.done()
        pausing.go_on.set()
        end.result(20)
        assert answer.result(20) == b"freeze\n"


def test_a_client_without_a_thread_is_turned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = ControlServer(
        listen(os.fspath(tmp_path / "control")), lambda: lambda _uid, line, _say: line + b"\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("no thread")))
        assert asked(tmp_path / "control", b"") == b""
    assert asked(tmp_path / "control", b"hello\n") == b"hello\n"
    server.close()
    assert "no thread" in caplog.text


def test_the_commands_are_not_loaded_for_a_mount_that_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread once tried to accept a client all the time, to the end of its second."""
    monkeypatch.setattr(control_server, "UNTIL_IDLE", 3600)
    prepare = Mock()
    before = set(threading.enumerate())
    server = ControlServer(listen(os.fspath(tmp_path / "control")), prepare)
    (thread,) = set(threading.enumerate()) - before
    server.close()
    thread.join(20)
    assert not thread.is_alive() and not prepare.called


def test_a_socket_left_behind_is_replaced_and_a_live_one_is_not(
    union: Union, below: Layers, path: Path
) -> None:
    with pytest.raises(OSError, match="in use"):
        listen(os.fspath(path))
    stale = below.base / "stale"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(os.fspath(stale))
    listen(os.fspath(stale)).close()
    assert stat.S_IMODE(stale.lstat().st_mode) == 0o600
