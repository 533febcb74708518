"""mount.pyunion as engines call it, with a helper and without one."""

from __future__ import annotations

import pytest

from mount_tools.helper.entry import is_an_engines


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-o", "lowerdir=a", "/m"], True),
        (["-olowerdir=a", "m", "-o", "ro"], True),
        (["/m", "-o", "-x"], True),
        (["spec", "/m", "-o", "lowerdir=a"], False),
        (["-o", "lowerdir=a", "-f", "/m"], False),
        (["--options", "lowerdir=a", "/m"], False),
        (["--help"], False),
        (["-o", "/m"], False),
        ([], False),
    ],
)
def test_which_command_lines_are_those_of_engines(words: list[str], expected: bool) -> None:
    assert is_an_engines(words) is expected
