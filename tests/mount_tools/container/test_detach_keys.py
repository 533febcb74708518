"""The keys that detach: how they are written, and found in what is typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore.errors import StoreError
from mount_tools.container.detach_keys import DEFAULT, DetachKeys, parse_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (DEFAULT, b"\x10\x11"),
        ("", b""),
        ("a", b"a"),
        ("ctrl-a,a", b"\x01a"),
        ("ctrl-@,ctrl-[,ctrl-_", b"\0\x1b\x1f"),
    ],
)
def test_keys_as_docker_writes_them(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-A", "ctrl-", "ab", "a,,b", "ctrl-1", "é"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(StoreError, match="Unknown character"):
        parse_keys(text)


@given(st.lists(st.binary(max_size=6)), st.sampled_from([b"\x10\x11", b"aa", b"aab", b"x"]))
def test_all_that_is_typed_before_the_keys_is_passed_on(pieces: list[bytes], keys: bytes) -> None:
    typed = b"".join(pieces)
    found = DetachKeys(keys)
    passed, left = b"", False
    for piece in pieces:
        more, left = found.feed(piece)
        passed += more
        if left:
            break
    at = typed.find(keys)
    assert left == (at >= 0)
    if left:
        assert passed == typed[:at]
    else:
        # Only a beginning of the keys is kept back.
        assert typed.startswith(passed)
        assert keys.startswith(typed[len(passed) :])


def test_without_keys_everything_is_passed_on() -> None:
    assert DetachKeys(b"").feed(b"\x10\x11") == (b"\x10\x11", False)
