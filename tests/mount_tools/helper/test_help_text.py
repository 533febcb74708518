"""The help text: made of the tables, complete, and fit for a terminal."""

from __future__ import annotations

import re

import pytest

from mount_tools.helper.command_line import FLAGS as TAKEN
from mount_tools.helper.command_line import WITH_VALUE, parse_call
from mount_tools.helper.help_text import FLAGS, usage
from mount_tools.mount.option_table import VFS_FLAGS, known_names

# Options for mount(8) alone, which nobody looks up there.
FOR_MOUNT8 = {
    *("auto", "noauto", "nouser", "users", "user", "owner", "group", "comment", "subtype"),
    *("nonempty", "uhelper", "helper", "defaults", "_netdev", "nofail", "private"),
}


@pytest.mark.parametrize("name", sorted(known_names() - FOR_MOUNT8))
def test_the_help_names_every_option(name: str) -> None:
    assert re.search(rf"(?<![\w+]){re.escape(name)}(?![\w+])", usage())


def test_every_flag_is_one_that_the_command_takes_and_the_reverse() -> None:
    described = {word for term, _ in FLAGS for word in term.split() if word.startswith("-")}
    described = {word.rstrip(",") for word in described}
    for word in described:
        value = ["x"] if word in WITH_VALUE else []
        parse_call([word, *value, "/mnt"])
    assert set(TAKEN) - described == {"--options"}


def test_the_help_fits_a_terminal() -> None:
    lines = usage().splitlines()
    assert max(map(len, lines)) <= 79
    assert not any(line != line.rstrip() for line in lines)


def test_the_flags_of_the_vfs_are_listed() -> None:
    assert all(name in usage() for name in VFS_FLAGS)
