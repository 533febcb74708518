"""What shows a build has every method that the builder calls."""

from __future__ import annotations

import inspect

import pytest

from mount_tools.build.watch import Watcher
from mount_tools.cli.output.build_lines import Lines, Silent
from mount_tools.cli.output.build_screen import Screen

CALLS = [name for name, _ in inspect.getmembers(Watcher, inspect.isfunction) if name[0] != "_"]


@pytest.mark.parametrize("kind", [Lines, Silent, Screen])
def test_all_calls_are_there(kind: type) -> None:
    for name in CALLS:
        wanted = inspect.signature(getattr(Watcher, name)).parameters
        assert list(inspect.signature(getattr(kind, name)).parameters) == list(wanted), name
