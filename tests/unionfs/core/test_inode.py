"""The names in a directory: what its upper and its lowers have, and what shows."""

from __future__ import annotations

import pytest

from unionfs.core.inode import (
    ABSENT,
    LOW_SHIFT,
    LOWER,
    UPPER,
    UPPER_OVER_LOWER,
    WHITED_OUT,
    Found,
    Loaded,
    lower_ino,
    lower_position,
)
from unionfs.core.whiteout import INO_SHIFT


def in_lower(ino: int, position: int) -> int:
    return ino << LOW_SHIFT | position << INO_SHIFT | 8


NAMES = Loaded(
    upper={b"new": 1, b"both": 2},
    whiteouts={b"gone", b"never"},
    lower={b"both": in_lower(5, 0), b"gone": in_lower(6, 1), b"old": in_lower(7, 2)},
    lower_dirs={b"old": (2, 3)},
)


@pytest.mark.parametrize(
    ("name", "found", "shows"),
    [
        (b"new", UPPER, True),
        (b"both", UPPER_OVER_LOWER, True),
        (b"old", LOWER, True),
        (b"gone", WHITED_OUT, False),
        (b"never", WHITED_OUT, False),
        (b"other", ABSENT, False),
    ],
)
def test_where_a_name_is(name: bytes, found: Found, shows: bool) -> None:
    assert NAMES.find(name) is found
    assert NAMES.holds(name) is shows


def test_what_is_listed() -> None:
    assert [(name, upper) for name, _, upper in NAMES.visible()] == [
        (b"old", False),
        (b"new", True),
        (b"both", True),
    ]
    assert not NAMES.is_empty()
    assert Loaded({}, {b"gone"}, {b"gone": in_lower(6, 1)}, {}).is_empty()


def test_the_lowers_that_have_a_name() -> None:
    assert NAMES.positions(b"old") == (2, 3)
    assert NAMES.positions(b"gone") == (1,)
    assert NAMES.positions(b"new") == ()
    packed = NAMES.lower[b"old"]
    assert (lower_ino(packed), lower_position(packed)) == (7, 2)
