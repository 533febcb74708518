"""The forms in which mount.pyunion is called."""

from __future__ import annotations

import getopt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mount_tools.helper.command_line import Call, parse_call
from mount_tools.mount.option_grammar import OptionError


def test_as_mount8_calls_it() -> None:
    assert parse_call(["image:tag", "/mnt", "-o", "rw,lowerdir=/a"]) == Call(
        spec="image:tag", directory="/mnt", options=("rw,lowerdir=/a",)
    )


def test_as_fuse_overlayfs_is_called() -> None:
    assert parse_call(["-o", "lowerdir=/a", "/mnt"]) == Call(
        directory="/mnt", options=("lowerdir=/a",), engine=True
    )


def test_by_the_name_of_fuse_overlayfs() -> None:
    call = parse_call(["overlay", "/mnt", "-f", "-o", "lowerdir=/a"], program="fuse-overlayfs")
    assert call == Call(
        spec="overlay", directory="/mnt", options=("lowerdir=/a",), foreground=True, engine=True
    )


def test_every_letter_of_the_contract_in_one() -> None:
    call = parse_call(
        ["spec", "/mnt", "-sfnv", "-o", "ro", "-t", "fuse.pyunion", "-N", "/proc/1/ns/mnt"]
    )
    assert call == Call(
        spec="spec",
        directory="/mnt",
        options=("ro",),
        namespace="/proc/1/ns/mnt",
        sloppy=True,
        fake=True,
        verbose=True,
    )


def test_f_is_fake_with_spec_and_foreground_without() -> None:
    helper, engine = parse_call(["spec", "/mnt", "-f"]), parse_call(["-f", "/mnt"])
    assert (helper.fake, helper.foreground) == (True, False)
    assert (engine.fake, engine.foreground) == (False, True)


def test_the_long_names_leave_no_doubt() -> None:
    assert parse_call(["spec", "/mnt", "--foreground"]).foreground
    assert not parse_call(["spec", "/mnt", "--foreground"]).fake
    assert parse_call(["--fake", "/mnt"]).fake
    assert parse_call(["--debug", "--sloppy", "--verbose", "/mnt"]) == Call(
        directory="/mnt", debug=True, sloppy=True, verbose=True, engine=True
    )


def test_options_in_several_places() -> None:
    call = parse_call(["-oro", "a", "-o", "x=1", "/m", "--options=y"])
    assert call.options == ("ro", "x=1", "y")


def test_operands_may_look_like_options_behind_two_dashes() -> None:
    assert parse_call(["-o", "ro", "--", "-spec", "/mnt"]).spec == "-spec"


WORDS = (
    *("-o", "-oro", "-fo", "-vs", "-sN", "-", "--", "-t", "--opt=x", "--options", "--v", "--ver"),
    *("--fake", "--fore", "--help=1", "--f", "-x", "a", "-fx", "", "-o-", "--sl"),
)
LONG = ["help", "version", "fake", "foreground", "debug", "verbose", "sloppy", "options="]


@given(st.lists(st.sampled_from(WORDS), max_size=6))
def test_flags_are_those_of_getopt(words: list[str]) -> None:
    """The module of that name takes a twentieth of a mount to import."""
    try:
        flags, operands = getopt.gnu_getopt(words, "sfnvdho:t:N:V", LONG)
    except getopt.GetoptError as error:
        with pytest.raises(OptionError, match=re.escape(error.msg)):
            parse_call(words)
        return
    given = {flag for flag, _ in flags}
    if not given & {"-h", "-V", "--help", "--version"} and (
        not 0 < len(operands) < 3 or not operands[-1]
    ):
        with pytest.raises(OptionError, match=r"director|too many"):
            parse_call(words)
        return
    call = parse_call(words)
    assert list(call.options) == [value for flag, value in flags if flag in ("-o", "--options")]
    assert call.verbose == bool(given & {"-v", "--verbose"})
    if not (call.help or call.version):
        assert [call.spec or "", call.directory][-len(operands) :] == operands


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["-h", "a", "b", "c"]])
def test_help_needs_no_operands(words: list[str]) -> None:
    assert parse_call(words).help


@pytest.mark.parametrize("words", [["--version"], ["-V"]])
def test_version_needs_no_operands(words: list[str]) -> None:
    assert parse_call(words).version


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no directory"),
        (["-o", "ro"], "no directory"),
        ([""], "empty"),
        (["spec", ""], "empty"),
        (["a", "b", "c"], "'c' is one argument too many"),
        (["-x", "/mnt"], "-x"),
        (["/mnt", "-o"], "-o"),
        (["--nonsense", "/mnt"], "--nonsense"),
        (["--fo", "--f", "/mnt"], "--f"),
    ],
)
def test_bad_calls(words: list[str], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        parse_call(words)
