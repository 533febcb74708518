"""The client of the control socket: what it makes of mounts that are gone, silent or wrong."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerstore.containers.control_client import NoMount, ask, freeze, writing
from layerstore.containers.control_protocol import (
    Freeze,
    Frozen,
    GetStatus,
    Refused,
    Writing,
    decode_request,
    encode_reply,
)
from layerstore.errors import Busy, StoreError
from tests.helpers.mounts import DEADLINE


@contextmanager
def answering(path: Path, answer: bytes | None, asked: list[bytes]) -> Iterator[None]:
    """Answer one client at `path`; with None it gets no answer until the end."""
    done = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as connection:
                asked.append(connection.makefile("rb").readline())
                if answer is None:
                    done.wait(DEADLINE)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def test_requests_and_replies_are_those_of_the_protocol(tmp_path: Path) -> None:
    asked: list[bytes] = []
    reply = Frozen(5, (b"/log\xff",), 7)
    with answering(tmp_path / "socket", encode_reply(reply), asked):
        assert freeze(tmp_path / "socket", tmp_path / "to", ahead=True) == reply
    assert decode_request(asked[0]) == Freeze(bytes(tmp_path / "to"), ahead=True)
    with answering(tmp_path / "second", encode_reply(Writing((b"/a",))), asked):
        assert writing(tmp_path / "second") == (b"/a",)


def test_a_socket_that_nothing_serves_is_no_mount(tmp_path: Path) -> None:
    with pytest.raises(NoMount):
        ask(tmp_path / "none", GetStatus())
    with pytest.raises(NoMount):
        ask(tmp_path / "no" / "directory", GetStatus())
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "socket"))
    with pytest.raises(NoMount):
        ask(tmp_path / "socket", GetStatus())


def test_a_daemon_that_dies_before_its_reply_is_no_mount(tmp_path: Path) -> None:
    with answering(tmp_path / "socket", b"", []), pytest.raises(NoMount, match="before it answ"):
        ask(tmp_path / "socket", GetStatus())


def test_a_silent_daemon_is_busy(tmp_path: Path) -> None:
    with answering(tmp_path / "socket", None, []), pytest.raises(Busy, match="not answered"):
        ask(tmp_path / "socket", GetStatus(), seconds=0.05)


def test_an_answer_that_is_no_reply_is_an_error_in_words(tmp_path: Path) -> None:
    with (
        answering(tmp_path / "socket", b"<html>\n", []),
        pytest.raises(StoreError, match="not understood"),
    ):
        ask(tmp_path / "socket", GetStatus())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_of_the_mount_is_an_oserror(tmp_path: Path, code: int) -> None:
    refusal = encode_reply(Refused("/upper: no space left", code))
    with answering(tmp_path / "socket", refusal, []), pytest.raises(OSError) as caught:
        ask(tmp_path / "socket", GetStatus())
    assert caught.value.errno == code


def test_another_refusal_keeps_the_words_of_the_mount(tmp_path: Path) -> None:
    refusal = encode_reply(Refused("no such file", errno.ENOENT))
    with answering(tmp_path / "socket", refusal, []), pytest.raises(Refused, match="no such file"):
        ask(tmp_path / "socket", GetStatus())
