"""What docker has and PyUnion has not is said with what to do; the table and the commands agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from mount_tools.cli.commands.groups import CONTAINER, IMAGE, SYSTEM, VOLUME, container, volume
from mount_tools.cli.framework import Group
from mount_tools.cli.main import COMMANDS as OFFERED
from mount_tools.cli.main import top
from mount_tools.cli.not_offered import (
    COMMANDS,
    FLAGS,
    OF_THE_STORE,
    flag_text,
    unknown_command,
    unknown_flag,
)

DIFFERENCES = Path(__file__).resolve().parents[3] / "docs/docker-differences.md"


def test_no_command_is_both_offered_and_not() -> None:
    assert not set(COMMANDS) & set(OFFERED)


@pytest.mark.parametrize("name", FLAGS)
def test_no_flag_is_both_offered_and_not(name: str) -> None:
    assert not set(FLAGS[name]) & offered_flags(name)


def test_the_sentences() -> None:
    assert unknown_command("pyunion", "compose", []) == (
        "pyunion has no compose: run containers one by one, or use podman-compose"
    )
    assert unknown_command("pyunion container", "update", []) == (
        "pyunion has no container update: remove the container and create it again"
    )
    assert flag_text("run", "--restart") == (
        "pyunion has no --restart: use a unit of systemd with Restart= and `pyunion run` in it"
    )
    assert flag_text("run", "--nonsense") is flag_text("images", "--cpu-shares") is None
    known = ["--filter", "--format", "--quiet"]
    assert (
        unknown_flag("ps", "--fromat", known) == "unknown flag: --fromat (did you mean --format?)"
    )
    assert unknown_flag("ps", "--nope", known) == "unknown flag: --nope"
    assert unknown_flag("run", "--restart", known) == flag_text("run", "--restart")
    assert unknown_flag("image ls", "--root", known) == (
        "--root goes before the command, as in `pyunion --root DIRECTORY image ls`"
    )


def test_the_flags_of_the_store_are_those_of_pyunion_itself() -> None:
    assert {name for option in top.options for name in option.names} == {
        *OF_THE_STORE,
        *("-v", "--version"),
    }


class Row(NamedTuple):
    """A line of the table of docs/docker-differences.md, flags and commands split."""

    commands: tuple[str, ...]
    flags: frozenset[str]
    here: str
    words: str


def table() -> list[Row]:
    rows = []
    for line in DIFFERENCES.read_text().splitlines():
        if line.startswith("| `"):
            commands, flags, here, words = (cell.strip() for cell in line[1:-1].split("|"))
            named = tuple(commands.replace("`", "").split(", "))
            rows.append(Row(named, frozenset(re.findall(r"`(-[^`]+)`", flags)), here, words))
    return rows


def commands() -> list[str]:
    return sorted({command for row in table() for command in row.commands})


def offered_flags(name: str) -> set[str]:
    group: Group = top if name == "build" else container
    if name.startswith("volume "):
        group, name = volume, name.removeprefix("volume ")
    found = group.find("ls" if name == "ps" else name)
    assert found is not None
    return {name for option in found.options for name in option.names}


def test_the_table_of_differences_has_every_command_once() -> None:
    shown = [command for row in table() if not row.flags for command in row.commands]
    assert sorted(shown) == commands()
    offered = {"ps" if name in ("ls", "list") else name for name in CONTAINER} - {"prune"}
    offered |= {f"volume {name}" for name in VOLUME} - {"volume list"}
    assert offered <= set(shown)


def test_the_commands_that_are_not_in_the_table_are_in_the_list() -> None:
    listed = DIFFERENCES.read_text().partition("## Images, registries and the store")[2]
    expected = {*IMAGE, *SYSTEM, "login", "logout", "search", "version", "container prune"}
    for name in expected - {"build", "list", "ls", "rm", "df", "prune"}:
        assert f"`{name}`" in listed, name


@pytest.mark.parametrize("name", commands())
def test_the_table_of_differences_is_that_of_the_command(name: str) -> None:
    rows = [row for row in table() if name in row.commands]
    whole = [row for row in rows if not row.flags]
    assert {row.here for row in rows} <= {"same", "different", "only here", "not offered"}
    if name in COMMANDS:
        assert [(row.here, row.words) for row in rows] == [("not offered", COMMANDS[name])]
        return
    assert whole[0].here != "not offered"
    written = [flag for row in rows for flag in row.flags]
    assert len(written) == len(set(written))
    # `create` has its flags of `run` in one row with it.
    only_of_run = {"-d", "--detach", "--detach-keys", "--sig-proxy"} if name == "create" else set()
    missing = {flag: row.words for row in rows for flag in row.flags if row.here == "not offered"}
    assert missing == FLAGS.get(name, {})
    assert set(written) - set(missing) - only_of_run == offered_flags(name)


def test_the_table_of_differences_says_how() -> None:
    for row in table():
        assert bool(row.words) == (row.here != "same"), row
