"""The control protocol: every message arrives as it was sent, and nothing else is taken for one."""

from __future__ import annotations

import json

import pytest

from layerstore.containers.control_protocol import (
    ControlRequest,
    Counters,
    Freeze,
    Frozen,
    GetCounters,
    GetStatus,
    GetWriting,
    Invalidate,
    Invalidated,
    MalformedMessage,
    Refused,
    Reply,
    Restore,
    Restored,
    Sign,
    Status,
    Writing,
    decode_reply,
    decode_request,
    decode_sign,
    encode_reply,
    encode_request,
    encode_sign,
)

NOT_UTF8 = b"/a\xff\n\xc3\xa9"


@pytest.mark.parametrize(
    "request_",
    [
        GetStatus(),
        GetCounters(),
        GetWriting(),
        Invalidate(),
        Invalidate(NOT_UTF8),
        Freeze(NOT_UTF8),
        Freeze(b"/to", ahead=True),
        Freeze(b"/to", signs=True),
        Restore(NOT_UTF8),
        Restore(b"/a", dry_run=True),
        Restore(b"/a", signs=True),
        Restore(b"/a", along=(NOT_UTF8, b"/b")),
    ],
)
def test_a_request_arrives_as_one_line(request_: ControlRequest[Reply]) -> None:
    line = encode_request(request_)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    assert decode_request(line) == request_


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (GetStatus(), Status(4, "/mnt", ("/upper", "/lo\udcffwer"))),
        (GetCounters(), Counters({"inodes": 3, "fds": 0})),
        (GetWriting(), Writing((b"/a", NOT_UTF8))),
        (Invalidate(), Invalidated(7)),
        (Freeze(b"/to"), Frozen(12_345, (NOT_UTF8,), 99)),
        (Restore(b"/a"), Restored(changed=True)),
    ],
)
def test_a_reply_arrives_as_one_line(request_: ControlRequest[Reply], reply: Reply) -> None:
    line = encode_reply(reply)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    assert decode_reply(request_, line) == reply


def test_the_lines_are_those_of_the_documentation() -> None:
    assert json.loads(encode_request(Freeze(b"/to"))) == {
        "command": "freeze",
        "upper_to": "/to",
        "ahead": False,
        "signs": False,
    }
    assert json.loads(encode_sign(Sign(5, "a disk"))) == {"idle": 5, "waits_for": "a disk"}
    assert json.loads(encode_reply(Writing((b"/a",)))) == {"ok": True, "paths": ["L2E="]}
    assert json.loads(encode_reply(Refused("full", 28))) == {
        "ok": False,
        "error": "full",
        "errno": 28,
    }


def test_a_sign_of_life_is_told_from_a_reply() -> None:
    assert decode_sign(encode_sign(Sign(1_500, "a disk"))) == Sign(1_500, "a disk")
    for reply in (Counters({"idle": 1}), Refused("no", None), Writing(())):
        assert decode_sign(encode_reply(reply)) is None
    for line in (b"", b"{}\n", b"nonsense\n", b'{"idle": "5", "waits_for": "a"}\n'):
        assert decode_sign(line) is None


def test_daemons_and_clients_of_other_versions_understand_each_other() -> None:
    old = b'{"command": "freeze", "upper_to": "/to", "ahead": true}\n'
    assert decode_request(old) == Freeze(b"/to", ahead=True, signs=False)
    unknown = b'{"command": "freeze", "upper_to": "/to", "what_a_later_one_has": 1}\n'
    assert decode_request(unknown) == Freeze(b"/to")


@pytest.mark.parametrize(("text", "errno"), [("the disk is full", 28), ("no", None)])
def test_a_refusal_keeps_its_text_and_errno(text: str, errno: int | None) -> None:
    with pytest.raises(Refused, match=text) as caught:
        decode_reply(GetStatus(), encode_reply(Refused(text, errno)))
    assert caught.value.errno == errno


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 60_000,
        b'{"command": "dance"}',
        b'{"command": ["status"]}',
        b'{"command": "status", "x": NaN}',
        b'{"command": "invalidate", "path": 3}',
        b'{"command": "invalidate", "path": "a\\u0000"}',
        b'{"command": "freeze"}',
        b'{"command": "freeze", "upper_to": "relative"}',
        b'{"command": "freeze", "upper_to": "/\\ud800"}',
        b'{"command": "freeze", "upper_to": "/to", "ahead": 1}',
        b'{"command": "restore"}',
        b'{"command": "restore", "path": "/a", "dry_run": "no"}',
        b'{"command": "restore", "path": "/a", "dry_run": false, "along": "/b"}',
    ],
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_request(line)


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (GetStatus(), b"null"),
        (GetStatus(), b'{"ok": false}'),
        (GetStatus(), b'{"ok": true, "pid": "4", "mount_point": "/", "stack": []}'),
        (GetStatus(), b'{"ok": true, "pid": 4, "mount_point": "/", "stack": [1]}'),
        (GetCounters(), b'{"ok": true, "counters": []}'),
        (GetCounters(), b'{"ok": true, "counters": {"fds": true}}'),
        (GetWriting(), b'{"ok": true, "paths": ["%%%%"]}'),
        (Freeze(b"/"), b'{"ok": true, "pause_ns": 1.5, "copied": [], "copied_bytes": 0}'),
    ],
)
def test_what_is_no_reply_is_refused(request_: ControlRequest[Reply], line: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_reply(request_, line)
