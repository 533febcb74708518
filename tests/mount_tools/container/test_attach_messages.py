"""The messages between keepers and viewers: each comes as it was sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mount_tools.container.attach_messages import (
    PIECE,
    Connection,
    Ended,
    Gone,
    Input,
    InputEnd,
    Logged,
    Message,
    Output,
    OutputClosed,
    Resize,
    Signal,
    Taken,
    Watch,
    connect,
    listen,
    pair,
)

MESSAGES: list[Message] = [
    Watch(output=True),
    Watch(output=False),
    Output(2, b"\0\xff" * (PIECE // 2)),
    Logged(),
    Input(b"typed"),
    Taken(),
    InputEnd(),
    OutputClosed(1),
    Resize(24, 80),
    Signal(15),
    Ended(137),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_as_it_was_sent(message: Message) -> None:
    one, other = map(Connection, pair())
    try:
        assert other.receive() is None
        assert one.send(message)
        assert other.receive() == message
    finally:
        one.close()
        other.close()


def test_a_full_connection_says_so_and_a_closed_one_is_gone() -> None:
    one, other = map(Connection, pair())
    try:
        sent = 0
        while one.send(Output(1, b"x" * PIECE)):
            sent += 1
        assert sent > 0
        # What came before the end is read, although the other end left ours unread.
        other.send(Ended(3))
        other.close()
        assert one.receive() == Ended(3)
        with pytest.raises(Gone):
            one.receive()
        with pytest.raises(Gone):
            one.send(Logged())
    finally:
        one.close()


def test_what_the_other_end_has_not_read_is_known() -> None:
    one, other = map(Connection, pair())
    try:
        assert not one.unread()
        one.send(Signal(15))
        one.send(Input(b""))
        assert one.unread() and not other.unread()
        assert other.receive() == Signal(15)
        assert one.unread()
        assert other.receive() == Input(b"")
        assert not one.unread()
    finally:
        one.close()
        other.close()


@pytest.mark.parametrize("data", [b"", b"x", b"\xff" * 9, b"\x0a" + bytes(8)])
def test_what_is_no_message_is_the_end(data: bytes) -> None:
    one, other = pair()
    with one, other:
        one.send(data)
        with pytest.raises(Gone):
            Connection(other).receive()


def test_a_socket_of_a_dead_keeper_is_replaced_however_long_its_path(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    assert connect(directory, Watch(output=True)) is None
    listen(directory).close()
    assert connect(directory, Watch(output=True)) is None
    with listen(directory) as listener:
        assert (directory / "attach.sock").stat().st_mode & 0o777 == 0o600
        client = connect(directory, Watch(output=True))
        assert client is not None
        server = Connection(listener.accept()[0])
        assert server.receive() == Watch(output=True)
        server.close()
        client.close()
    assert os.listdir(directory) == ["attach.sock"]
