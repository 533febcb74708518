"""The client of the control socket: what it makes of mounts that are gone, silent or wrong."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerstore.containers import control_client
from layerstore.containers.control_client import NoMount, ask, freeze, restore, writing
from layerstore.containers.control_protocol import (
    Freeze,
    Frozen,
    GetStatus,
    Refused,
    Restored,
    Sign,
    Writing,
    decode_request,
    encode_reply,
    encode_sign,
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
    assert decode_request(asked[0]) == Freeze(bytes(tmp_path / "to"), ahead=True, signs=True)
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


@contextmanager
def giving(path: Path, signs: list[Sign], then: bytes | None, pause: float = 0) -> Iterator[None]:
    """Serve one client: give it `signs`, each `pause` seconds after the last, and then `then`.

    With None nothing more comes until the client goes.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(1 << 16)
                for sign in signs:
                    connection.sendall(encode_sign(sign))
                    threading.Event().wait(pause)
                if then is not None:
                    connection.sendall(then)
                elif connection.recv(1):
                    raise AssertionError("the client has more to say")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join()


QUIET = 1.0


def test_a_freeze_that_goes_on_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_client, "QUIET_SECONDS", QUIET)
    reply, signs = Frozen(5, (), 7), [Sign(ms, "a disk") for ms in (0, 900, 0)]
    with giving(tmp_path / "socket", signs * 4, encode_reply(reply), QUIET / 8):
        assert freeze(tmp_path / "socket", tmp_path / "to") == reply
    with giving(tmp_path / "second", signs, encode_reply(Restored(changed=True))):
        assert restore(tmp_path / "second", b"/a")


@pytest.mark.parametrize("what", ["a disk", "another request"])
def test_a_freeze_that_hangs_is_busy(tmp_path: Path, what: str) -> None:
    """It was waited for for an hour."""
    hung = int(control_client.QUIET_SECONDS * 1000)
    signs = [Sign(0, what), Sign(hung, what)]
    with (
        giving(tmp_path / "socket", signs, None),
        pytest.raises(Busy, match=f"for 30 s the process that serves it.* waited for {what}"),
    ):
        freeze(tmp_path / "socket", tmp_path / "to")
    with (
        giving(tmp_path / "second", signs, None),
        pytest.raises(Busy, match="does not go on"),
    ):
        restore(tmp_path / "second", b"/a")


def test_a_daemon_that_stops_to_give_signs_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_client, "QUIET_SECONDS", 0.05)
    with giving(tmp_path / "socket", [Sign(0, "")], None), pytest.raises(Busy, match="not answer"):
        freeze(tmp_path / "socket", tmp_path / "to")
