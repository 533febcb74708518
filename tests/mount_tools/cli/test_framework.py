"""Flags and operands are taken, and refused, as docker's client does."""

from __future__ import annotations

import gc

import pytest

from mount_tools.cli import framework
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.framework import Command, Group, command, words_of
from mount_tools.cli.invocation import Invocation
from unionfs.light_typing import NamedTuple

Params = dict[str, object]


def made(**limits: int | None) -> tuple[Command, Params]:
    """Return a command that notes what it was called with."""
    seen: Params = {}

    @command("Do a thing", "THING [THING...]", least=limits.get("least") or 0, most=limits["most"])
    @framework.flag("-a", "--all", says="All of them")
    @framework.flag("--pause", says="Pause (default true)", default=True)
    @framework.number("-n", "--last", says="How many", default=-1)
    @framework.texts("-e", "--env", says="Variables")
    @framework.filters(says="Which ones")
    def thing(_: Invocation, /, **params: object) -> None:
        """Further text, of several
        lines."""
        seen.update(params)

    return thing, seen


def call(one: Command, *args: str) -> None:
    one.run("pyunion thing", args, Invocation("/nowhere"))


def refusal(one: Command, *args: str) -> tuple[str, int]:
    with pytest.raises(WrongWords) as raised:
        call(one, *args)
    return raised.value.message, raised.value.status


def test_flags_stand_anywhere_and_can_be_run_together() -> None:
    one, seen = made(most=None)
    call(one, "x", "-an3", "y", "--env=A=1", "-e", "-B", "-f", "a=b", "--", "-z")
    assert seen == {
        "operands": ("x", "y", "-z"),
        "all": True,
        "pause": True,
        "last": 3,
        "env": ("A=1", "-B"),
        "wanted": (("a", "b"),),
    }


@pytest.mark.parametrize("value", ["false", "0", "F"])
def test_a_flag_can_be_turned_off(value: str) -> None:
    one, seen = made(most=None)
    call(one, f"--pause={value}", f"-a={value}", "-e", "--pause=true")
    assert (seen["pause"], seen["all"], seen["env"]) == (False, False, ("--pause=true",))


def test_after_the_first_operand_of_some_commands_nothing_is_a_flag() -> None:
    one, seen = made(most=None)
    one.interspersed = False
    call(one, "-e", "A", "image", "-a", "--pause=false", "--nope")
    assert seen["operands"] == ("image", "-a", "--pause=false", "--nope")
    assert (seen["all"], seen["pause"]) == (False, True)


def test_the_collector_begins_with_the_command_and_leaves_what_it_does_not_own_alone() -> None:
    one, _ = made(most=None)
    frozen = gc.get_freeze_count()
    call(one)
    assert gc.get_freeze_count() <= frozen, "it was on: the objects of others are not frozen"
    gc.disable()
    try:
        call(one)
        assert gc.isenabled() and gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
        gc.enable()


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-ax"], "unknown shorthand flag: 'x' in -x"),
        (["-e"], "flag needs an argument: 'e' in -e"),
        (["--env"], "flag needs an argument: --env"),
        (
            ["-n", "x"],
            'invalid argument "x" for "-n, --last" flag: '
            'strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (
            ["-f", "noequal"],
            'invalid argument "noequal" for "-f, --filter" flag: '
            "bad format of filter (expected name=value)",
        ),
        (
            ["--all=maybe"],
            'invalid argument "maybe" for "-a, --all" flag: '
            'strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
    ],
)
def test_a_wrong_flag_ends_with_125(args: list[str], complaint: str) -> None:
    one, _ = made(most=None)
    text, status = refusal(one, *args)
    assert text == f"{complaint}\nSee 'pyunion thing --help'."
    assert status == 125


@pytest.mark.parametrize(
    ("least", "most", "given", "wants"),
    [
        (1, None, 0, "requires at least 1 argument"),
        (2, None, 1, "requires at least 2 arguments"),
        (2, 2, 1, "requires exactly 2 arguments"),
        (1, 1, 2, "requires exactly 1 argument"),
        (0, 1, 2, "requires at most 1 argument"),
        (1, 2, 3, "requires at least 1 and at most 2 arguments"),
    ],
)
def test_a_wrong_number_of_operands_ends_with_1(
    least: int, most: int | None, given: int, wants: str
) -> None:
    one, seen = made(least=least, most=most)
    text, status = refusal(one, *["x"] * given)
    assert text == (
        f"\"pyunion thing\" {wants}.\nSee 'pyunion thing --help'.\n\n"
        "Usage:  pyunion thing [OPTIONS] THING [THING...]\n\nDo a thing"
    )
    assert (status, seen) == (1, {})


def test_a_command_without_operands_says_so() -> None:
    @command("List")
    def ps(_: Invocation) -> None:
        """"""

    text, status = refusal(ps, "x")
    assert text.startswith('"pyunion thing" accepts no arguments.\n')
    assert status == 1


def test_flags_can_be_given_as_one() -> None:
    class Flags(NamedTuple):
        last: int
        env: tuple[str, ...]

    seen: Params = {}

    @command("Do a thing", "[THING...]", most=None)
    @framework.number("-n", "--last", says="How many", default=-1)
    @framework.texts("-e", "--env", says="Variables")
    @framework.flag("--pause", says="Pause")
    @framework.as_one(Flags)
    def thing(_: Invocation, operands: tuple[str, ...], flags: Flags, pause: bool) -> None:
        """Further text."""
        seen.update(operands=operands, flags=flags, pause=pause)

    call(thing, "x", "-n3", "--pause")
    assert seen == {"operands": ("x",), "flags": Flags(last=3, env=()), "pause": True}
    assert thing.description == "Further text."


def test_an_unknown_command_of_a_group_is_named() -> None:
    group = Group("image", "Manage images", {"tag": "tag_cmd.tag"})
    with pytest.raises(WrongWords) as raised:
        group.run("pyunion image", ["nope"], Invocation("/nowhere"))
    assert raised.value.status == 1
    assert raised.value.message == (
        "pyunion: 'image nope' is not a pyunion command.\nSee 'pyunion image --help'"
    )


def test_the_words_of_a_command() -> None:
    assert words_of("pyunion image ls") == "image ls"
    assert words_of("pyunion") == ""
