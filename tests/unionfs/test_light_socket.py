"""Sockets between local processes do what those of the module socket do."""

from __future__ import annotations

import os
import socket as full
from pathlib import Path

import pytest

from unionfs import light_socket as light

KINDS = (light.SOCK_STREAM, light.SOCK_SEQPACKET)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_closed_at_the_end_of_its_block(kind: int) -> None:
    one, other = light.socketpair(light.AF_UNIX, kind)
    with one, other:
        one.sendall(b"one")
        assert other.recv(10) == b"one"
        assert not os.get_inheritable(one.fileno()) and not os.get_inheritable(other.fileno())
    assert one.fileno() == other.fileno() == -1


@pytest.mark.parametrize("kind", KINDS)
def test_descriptors_arrive(kind: int) -> None:
    reading, writing = os.pipe()
    one, other = light.socketpair(light.AF_UNIX, kind)
    with one, other:
        assert light.send_fds(one, [b"a", b"b"], [writing, reading]) == 2
        data, fds, flags, _ = light.recv_fds(other, 10, 5)
        assert data == b"ab" and len(fds) == 2 and not flags & light.MSG_CTRUNC
        os.write(fds[0], b"x")
        assert os.read(fds[1], 10) == b"x"
    for fd in (reading, writing, *fds):
        os.close(fd)


def test_no_more_descriptors_arrive_than_are_asked_for() -> None:
    one, other = light.socketpair(light.AF_UNIX, light.SOCK_SEQPACKET)
    with one, other:
        light.send_fds(one, [b"a"], [0, 0, 0])
        data, fds, flags, _ = light.recv_fds(other, 10, 2)
        # The buffer is rounded up to a word, which has room for one more.
        assert (data == b"a" and flags & light.MSG_CTRUNC) or len(fds) == 3
        light.send_fds(one, [b"b"], [])
        assert light.recv_fds(other, 10, 2)[:2] == (b"b", [])
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("seconds", [None, 5.0])
def test_a_listener_accepts(tmp_path: Path, seconds: float | None) -> None:
    path = str(tmp_path / "socket")
    with light.socket(light.AF_UNIX, light.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(seconds)
        with full.socket(full.AF_UNIX, full.SOCK_STREAM) as client:
            client.connect(path)
            end, _ = listener.accept()
            with end:
                assert end.gettimeout() is None and os.get_blocking(end.fileno())
                end.sendall(b"here")
            assert client.recv(10) == b"here"


def test_a_socket_is_made_of_a_descriptor() -> None:
    one, other = full.socketpair()
    with other, light.socket(fileno=one.detach()) as mine:
        assert (mine.family, mine.type) == (full.AF_UNIX, full.SOCK_STREAM)
        mine.sendall(b"one")
        assert other.recv(10) == b"one"


def test_names_are_those_of_the_module_socket() -> None:
    for name in light.__all__:
        ours, theirs = getattr(light, name), getattr(full, name)
        assert ours == theirs if isinstance(theirs, int) else callable(ours)
