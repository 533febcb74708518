"""The flags that several commands have give each of them the same parameters."""

from __future__ import annotations

import pytest

from mount_tools.cli.commands.shared_flags import detach_keys, stop_time
from mount_tools.cli.framework import command


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ([], {"time": -1, "keys": "ctrl-p,ctrl-q"}),
        (["-t", "3", "--detach-keys=ctrl-x"], {"time": 3, "keys": "ctrl-x"}),
    ],
)
def test_values(words: list[str], values: dict[str, object]) -> None:
    @command("End it")
    @stop_time
    @detach_keys
    def end(*_: object) -> None:
        pass

    assert end.values("pyunion end", words) == values
