"""Filters: what is known, and what values mean."""

from __future__ import annotations

import pytest

from layerstore.errors import StoreError
from mount_tools.cli.commands import filters


def test_values_are_gathered_by_name() -> None:
    wanted = [("label", "a"), ("dangling", "true"), ("label", "b=c")]
    assert filters.gathered(wanted, ("label", "dangling")) == {
        "label": ["a", "b=c"],
        "dangling": ["true"],
    }
    with pytest.raises(StoreError, match=r"^Invalid filter 'bad'$"):
        filters.gathered([("bad", "1")], ("label",))


def test_truth_values() -> None:
    assert filters.boolean("dangling", ["1"]) is True
    assert filters.boolean("dangling", ["False"]) is False
    with pytest.raises(StoreError, match=r"^Invalid filter 'dangling=\[maybe\]'$"):
        filters.boolean("dangling", ["maybe"])


def test_a_filter_that_takes_one_value() -> None:
    assert filters.single("before", {"before": ["a"]}) == "a"
    assert filters.single("since", {"before": ["a"]}) is None
    with pytest.raises(StoreError, match="only once"):
        filters.single("before", {"before": ["a", "b"]})


def test_labels_with_and_without_a_value() -> None:
    assert filters.label_pairs(["a", "b=", "c=d=e"]) == (("a", None), ("b", ""), ("c", "d=e"))
