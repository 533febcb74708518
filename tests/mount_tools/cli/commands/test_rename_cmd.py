"""rename."""

from __future__ import annotations

import pytest

from tests.helpers.containers import Containers


def test_a_container_gets_another_name(containers: Containers) -> None:
    number = containers.ok("create", "--name", "one", "busy:1", "true")
    containers.ok("create", "--name", "other", "busy:1", "true")
    assert containers.ok("rename", "one", "two") == ""
    assert containers.ok("inspect", "-f", "{{.Id}}", "two") == number
    for old, new, said in (
        ("one", "three", "No such container: one"),
        ("two", "other", 'The container name "/other" is already in use'),
        ("two", "two", "has that name already"),
        ("two", "-x", "Invalid container name (-x)"),
    ):
        done = containers("rename", "--", old, new)
        assert done.returncode == 1 and said in done.stderr, done
    containers.ok("rm", "two", "other")


@pytest.mark.parametrize("words", [(), ("one",), ("one", "two", "three")])
def test_two_words(containers: Containers, words: tuple[str, ...]) -> None:
    assert containers("rename", *words).returncode == 1
