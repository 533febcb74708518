"""Flags of instructions."""

from __future__ import annotations

import pytest

from layerstore.containerfile.errors import ContainerfileError, Location
from layerstore.containerfile.flags import Flags, Kind, suggestion

AT = Location("f", 1, 1, "COPY")
KINDS: dict[str, Kind] = {"name": "text", "link": "truth", "more": "texts"}


def test_values() -> None:
    flags = Flags(AT, ["--name=a=b", "--link", "--more=1", "--more=2"], KINDS)
    assert flags.text("name") == "a=b"
    assert flags.truth("link")
    assert flags.texts("more") == ("1", "2")
    assert "link" in flags


def test_defaults() -> None:
    flags = Flags(AT, [], KINDS)
    assert flags.text("name", "x") == "x"
    assert not flags.truth("link")
    assert flags.texts("more") == ()
    assert "link" not in flags


@pytest.mark.parametrize(("word", "truth"), [("--link=TRUE", True), ("--link=false", False)])
def test_truth(word: str, truth: bool) -> None:
    assert Flags(AT, [word], KINDS).truth("link") is truth


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["--nmae=a"], "unknown flag: --nmae (did you mean --name?)"),
        (["--zzzzz"], "unknown flag: --zzzzz\n"),
        (["--name"], "missing a value on flag: --name"),
        (["--link="], "missing a value on flag: --link"),
        (["--link=1"], "expecting boolean value for flag --link, not: 1"),
        (["--link", "--link"], "duplicate flag specified: --link"),
    ],
)
def test_what_is_refused(given: list[str], reason: str) -> None:
    with pytest.raises(ContainerfileError) as caught:
        Flags(AT, given, KINDS)
    assert reason in str(caught.value)


def test_suggestion() -> None:
    assert suggestion("coppy", ["copy", "run"]) == " (did you mean copy?)"
    assert suggestion("x", ["copy", "run"]) == ""
