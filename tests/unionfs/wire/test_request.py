"""Where the parts of a request and of its reply are."""

from __future__ import annotations

import pytest

from unionfs.wire.request import Request, room_of


def request_with(payload: bytes, out: bytearray) -> Request:
    """Return a request whose payload begins 8 bytes into its data."""
    data = bytearray(8) + payload + b"rest of an earlier request"
    request = Request(bytearray(), 0, data, out, 16)
    request.start, request.end = 8, 8 + len(payload)
    return request


def test_a_name_ends_before_its_nul() -> None:
    assert request_with(b"name\xff\0", bytearray(16)).name() == b"name\xff"


def test_two_names_are_told_apart() -> None:
    assert request_with(b"old\0new\0", bytearray(16)).names()[:2] == [b"old", b"new"]


def test_an_answer_goes_behind_the_header() -> None:
    out = bytearray(b"h" * 16 + b"-" * 16)
    request = request_with(b"", out)
    assert request.limit == 16
    assert request.answer(b"reply") == 5
    assert out == b"h" * 16 + b"reply" + b"-" * 11


def test_a_room_is_zeroed_and_has_the_size_asked_for() -> None:
    room = room_of(1 << 20)
    try:
        assert len(room) == 1 << 20
        assert room[:4096] == bytes(4096)
        request = Request(room, 0, room, room, 16)
        request.answer(b"reply")
        assert room[16:21] == b"reply"
        with pytest.raises(IndexError):
            Request(room, 0, room, room, len(room) - 2).answer(b"reply")
    finally:
        room.close()
