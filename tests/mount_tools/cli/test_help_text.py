"""Examples and exit statuses go to the command they belong to, by whichever name."""

from __future__ import annotations

import pytest

from mount_tools.cli.help_text import EXAMPLES, examples_of, exit_statuses_of


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("run", "run"),
        ("container run", "run"),
        ("image save", "save"),
        ("system df", ""),
        # Of the same name, but other commands than those at the top.
        ("image rm", ""),
        ("image prune", ""),
        ("container inspect", ""),
        ("nope", ""),
    ],
)
def test_examples_of_a_command(words: str, same: str) -> None:
    assert examples_of(words) == EXAMPLES.get(same, ())


def test_exit_statuses_of_a_command() -> None:
    assert [term for term, _ in exit_statuses_of("images")] == ["0", "1", "125"]
    assert [term for term, _ in exit_statuses_of("container run")] == [
        *("125", "126", "127", "others")
    ]
    assert "64" in [term for term, _ in exit_statuses_of("image inspect")]
