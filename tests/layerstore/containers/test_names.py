"""Names for containers that were given none."""

from __future__ import annotations

import re

from layerstore.containers.names import new_name


def test_name_is_two_words() -> None:
    assert re.fullmatch(r"[a-z]+_[a-z]+", new_name(lambda name: False))


def test_taken_name_is_not_given_again() -> None:
    given: set[str] = set()
    for _ in range(2000):
        name = new_name(lambda name: name in given)
        assert name not in given
        given.add(name)


def test_number_is_added_once_the_words_are_used_up() -> None:
    assert re.fullmatch(r"[a-z]+_[a-z]+[0-9]+", new_name(lambda name: name[-1].isalpha()))
