"""A command of a group is the one of the top, or one of its own."""

from __future__ import annotations

import pytest

from mount_tools.cli.commands import groups
from mount_tools.cli.framework import Group
from mount_tools.cli.main import COMMANDS
from tests.helpers.cli import Cli

TOP = {"image ls": "images", "container ls": "ps", "image rm": "rmi"}
OWN = {
    *("image inspect", "image prune", "container inspect", "container prune", "system df"),
}


@pytest.mark.parametrize("group", [groups.image, groups.container, groups.system])
def test_each_member_is_a_command_of_the_top_or_of_its_own(group: Group) -> None:
    for name in group.names():
        words = f"{group.name} {name}"
        at_top = COMMANDS.get(TOP.get(words, name))
        assert (group.members[name] == at_top) != (words in OWN), words


def test_list_is_ls_and_not_shown(cli: Cli) -> None:
    assert cli.ok("image", "list", "-q") == cli.ok("image", "ls", "-q")
    assert "\n  list " not in cli("image").err
