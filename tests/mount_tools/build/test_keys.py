"""Keys of steps: what they depend on, and that nothing can be taken for something else."""

from __future__ import annotations

from layerstore.containerfile.errors import Location
from layerstore.containerfile.instructions import Copy
from mount_tools.build.keys import Definition, of_config, of_copy
from tests.helpers.images import some_digest

AT = Location("Containerfile", 1, 1, "")


def test_words_cannot_run_into_each_other() -> None:
    keys = {Definition(words).key(None) for words in (("ab", "c"), ("a", "bc"), ("abc",))}
    assert len(keys) == 3


def test_the_layers_below_are_part_of_the_key() -> None:
    one = Definition(("RUN",))
    assert len({one.key(None), one.key(some_digest("a")), one.key(some_digest("b"))}) == 3


def test_the_epoch_is_part_of_the_key() -> None:
    one = Definition(("RUN",))
    assert len({one.key(None), one.key(None, 0), one.key(None, 1)}) == 3


def test_how_something_is_copied_is_part_of_the_key() -> None:
    variants = [
        Copy(AT, ("a",), "/x"),
        Copy(AT, ("a",), "/y"),
        Copy(AT, ("a",), "/x", owner="1"),
        Copy(AT, ("a",), "/x", mode="600"),
        Copy(AT, ("a",), "/x", parents=True),
        Copy(AT, ("a",), "/x", exclude=("b",)),
    ]
    assert len({of_copy(one, "/", "content") for one in variants}) == len(variants)
    # The name of a source is not, but its content is.
    assert of_copy(Copy(AT, ("b",), "/x"), "/", "content") == of_copy(variants[0], "/", "content")
    assert of_copy(variants[0], "/", "other") != of_copy(variants[0], "/", "content")


def test_the_configuration_before_is_part_of_the_key() -> None:
    assert of_config({"a": 1}, "ENV x=y") != of_config({"a": 2}, "ENV x=y")
    assert of_config({"a": 1, "b": 2}, "x") == of_config({"b": 2, "a": 1}, "x")
