"""What every transport shares: bounded reads, and the order to stop."""

from __future__ import annotations

import socket
import threading

import pytest

from layerstore.registry.errors import Cancelled
from layerstore.registry.transport import Stop, read_all
from tests.helpers.mounts import DEADLINE
from tests.layerstore.registry.fakes import FakeAnswer


def test_body_is_read_up_to_a_limit() -> None:
    data = bytes(200_000)
    assert read_all(FakeAnswer(200, data), 200_000) == data
    assert read_all(FakeAnswer(200, data), 199_999) is None
    assert read_all(FakeAnswer(200), 0) == b""


def test_stop_ends_waits_and_sockets() -> None:
    stop = Stop()
    stop.check()
    stop.wait(0)
    one, other = socket.socketpair()
    with one, other:
        stop.watch(one)
        caught: list[type[BaseException]] = []

        def wait() -> None:
            try:
                stop.wait(DEADLINE)
            except Cancelled as error:
                caught.append(type(error))

        thread = threading.Thread(target=wait)
        thread.start()
        stop.set()
        thread.join(10)
        assert caught == [Cancelled]
        assert one.recv(1) == b"" and other.recv(1) == b""
        with pytest.raises(Cancelled):
            stop.watch(other)
        with pytest.raises(Cancelled):
            stop.check()
