"""Filters: what is known, and what values mean."""

from __future__ import annotations

import pytest

from layerstore.errors import StoreError
from mount_tools.cli import filter_words


def test_values_are_gathered_by_name() -> None:
    wanted = [("label", "a"), ("dangling", "true"), ("label", "b=c")]
    assert filter_words.gathered(wanted, ("label", "dangling")) == {
        "label": ["a", "b=c"],
        "dangling": ["true"],
    }
    with pytest.raises(StoreError, match=r"^Invalid filter 'bad'$"):
        filter_words.gathered([("bad", "1")], ("label",))


def test_truth_values() -> None:
    assert filter_words.boolean("dangling", ["1"]) is True
    assert filter_words.boolean("dangling", ["False"]) is False
    with pytest.raises(StoreError, match=r"^Invalid filter 'dangling=\[maybe\]'$"):
        filter_words.boolean("dangling", ["maybe"])


def test_a_filter_that_takes_one_value() -> None:
    assert filter_words.single("before", {"before": ["a"]}) == "a"
    assert filter_words.single("since", {"before": ["a"]}) is None
    with pytest.raises(StoreError, match="once only"):
        filter_words.single("before", {"before": ["a", "b"]})


def test_labels_with_and_without_a_value() -> None:
    assert filter_words.label_pairs(["a", "b=", "c=d=e"]) == (("a", None), ("b", ""), ("c", "d=e"))
