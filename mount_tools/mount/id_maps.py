"""The values of `uidmapping=`, `gidmapping=`, `squash_to_uid=` and `squash_to_gid=`.

Source: fuse-overlayfs(1); containers/storage `overlay.go`, which writes the
maps with a leading colon.
"""

from __future__ import annotations

from itertools import pairwise

from mount_tools.mount.option_grammar import OptionError, Word, shortened
from unionfs import IdRange

# For chown(2), (uid_t) -1 means "do not change", so it is not an id.
MAX_ID = 2**32 - 2

_DIGITS = 10  # of the longest id


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


def parse_id(word: Word) -> int:
    """Return the id that `word` names, 0 … 2^32-2."""
    value = word.value or ""
    if not _is_number(value) or int(value) > MAX_ID:
        raise OptionError(f"{shortened(str(word))} is not an id; give a number from 0 to {MAX_ID}")
    return int(value)


def parse_id_map(word: Word) -> tuple[IdRange, ...]:
    """Return the ranges of `STORED:SHOWN:LENGTH[:STORED:SHOWN:LENGTH…]`.

    Raises `OptionError` unless they are whole, in range and disjoint on both sides.
    """
    shown = shortened(str(word))
    parts = [part for part in (word.value or "").split(":") if part]
    if not parts or len(parts) % 3 or not all(map(_is_number, parts)):
        raise OptionError(
            f"{shown} is not understood; give {word.name}=ID_IN_LAYER:ID_SHOWN:COUNT[:…]"
        )
    numbers = [int(part) for part in parts]
    ranges = [IdRange(*numbers[i : i + 3]) for i in range(0, len(numbers), 3)]
    for side in ([(r.stored, r.length) for r in ranges], [(r.shown, r.length) for r in ranges]):
        if any(length < 1 or first + length - 1 > MAX_ID for first, length in side):
            raise OptionError(
                f"{shown} is out of range; a count is at least 1 and an id at most {MAX_ID}"
            )
        if any(a + length > b for (a, length), (b, _) in pairwise(sorted(side))):
            raise OptionError(f"{shown} maps an id twice; the ranges must not overlap")
    return tuple(ranges)
