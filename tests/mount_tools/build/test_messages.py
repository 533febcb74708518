"""The connection between two processes of a build."""

from __future__ import annotations

import os

import pytest

from mount_tools.build.messages import Began, Broke, Finished, Message, Ready, link


def test_messages_come_in_order_and_then_the_end() -> None:
    ours, theirs = link()
    sent: list[Message] = [Began(1), Finished(1, 0.5, 12, None), Broke(2, 1, "x" * 10_000)]
    for message in sent:
        theirs.send(message)
    theirs.close()
    for message in sent:
        assert ours.receive() == (message, [])
    assert ours.receive() is None
    with pytest.raises(BrokenPipeError):
        ours.send(Began(3))
    ours.close()


def test_a_closed_peer_that_had_not_received_all_is_a_closed_peer() -> None:
    ours, theirs = link()
    ours.send(Began(1))
    theirs.close()
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            ours.send(Began(2))
    ours.close()


def test_descriptors_come_with_a_message() -> None:
    ours, theirs = link()
    reading, writing = os.pipe()
    theirs.send(Ready(), writing)
    os.close(writing)
    received = ours.receive()
    assert received is not None and received[0] == Ready()
    os.write(received[1][0], b"through")
    assert os.read(reading, 10) == b"through"
    assert not os.get_inheritable(received[1][0])
    for fd in (reading, *received[1]):
        os.close(fd)
    ours.close()
    theirs.close()
