"""The table of options says what the options do: arguments, choices, defaults."""

from __future__ import annotations

import pytest

from mount_tools.mount.mount_options import MountOptions
from mount_tools.mount.option_grammar import OptionError
from mount_tools.mount.option_table import (
    IGNORED,
    REFUSED,
    SECTIONS,
    TUNING,
    VFS_FLAGS,
    Option,
    is_ignored,
)
from mount_tools.mount.options import parse_options

OPTIONS = [option for section in SECTIONS for option in section.options]
LAYERS = "lowerdir=/l,upperdir=/u,workdir=/w"


def parse(word: str) -> MountOptions:
    of_image = word.startswith("container")
    also = "ro" if word == "noopen" else ""  # for a read-only mount only
    words = ["" if of_image else LAYERS, also, word]
    return parse_options(words, privileged=True, of_image=of_image)


def choices(option: Option) -> list[str]:
    return option.argument.split("|") if "|" in option.argument else []


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_arguments_and_choices_are_those_that_are_read(option: Option) -> None:
    if not option.argument:
        parse(option.name)
        with pytest.raises(OptionError, match="takes no value"):
            parse(f"{option.name}=x")
        return
    with pytest.raises(OptionError):
        parse(option.name)  # it needs its value
    for choice in choices(option):
        parse(f"{option.name}={choice}")
    if choices(option):
        with pytest.raises(OptionError, match="is one of"):
            parse(f"{option.name}=anything-else")


@pytest.mark.parametrize(
    "option", [o for o in OPTIONS if o.default in choices(o)], ids=lambda option: option.name
)
def test_a_default_that_is_a_choice_is_what_holds_without_the_option(option: Option) -> None:
    assert parse(f"{option.name}={option.default}") == parse("")


def test_every_option_belongs_to_one_group() -> None:
    described = {option.name for option in OPTIONS}
    groups = [described | set(VFS_FLAGS), set(REFUSED), set(TUNING), set(IGNORED)]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_what_is_ignored() -> None:
    assert is_ignored("x-systemd.automount") and is_ignored("X-mount.mkdir")
    assert not any(map(is_ignored, [*REFUSED, *VFS_FLAGS, *(o.name for o in OPTIONS)]))


def test_flags_set_and_clear_different_bits() -> None:
    for name, (on, off) in VFS_FLAGS.items():
        assert on | off and not on & off, name
