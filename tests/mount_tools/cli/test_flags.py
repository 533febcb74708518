"""Command lines are split as pflag splits them; the expectations were run on docker's client."""

from __future__ import annotations

import shutil
import subprocess

import click
import pytest

from mount_tools.cli.flags import FlagParser, WrongFlag, parse_integer

OPTIONS = [
    click.Option(["-a", "--all"], is_flag=True),
    click.Option(["-q", "--quiet"], is_flag=True),
    click.Option(["-m", "--message"]),
    click.Option(["-n", "--last"]),
    click.Option(["-f", "--filter"], multiple=True),
]


def parsed(*args: str, interspersed: bool = True) -> tuple[list[str], dict[str, bool]]:
    parser = FlagParser(OPTIONS, interspersed=interspersed)
    parser.parse(args)
    return parser.words, parser.switches


@pytest.mark.parametrize(
    ("args", "words", "switches"),
    [
        (["-m", "text"], ["-m", "text", "--"], {}),
        (["-mtext"], ["-m", "text", "--"], {}),
        (["-m=text"], ["-m", "text", "--"], {}),
        (["-m=a=b"], ["-m", "a=b", "--"], {}),
        (["-m==b"], ["-m", "=b", "--"], {}),
        (["-m="], ["-m", "=", "--"], {}),
        (["-m", ""], ["-m", "", "--"], {}),
        (["-m", "-a"], ["-m", "-a", "--"], {}),
        (["-m", "--"], ["-m", "--", "--"], {}),
        (["-aqm=text"], ["-m", "text", "--"], {"all": True, "quiet": True}),
        (["-am", "text", "x"], ["-m", "text", "--", "x"], {"all": True}),
        (["-an=5"], ["-n", "5", "--"], {"all": True}),
        (["-an5"], ["-n", "5", "--"], {"all": True}),
        (["-f=a=b", "-fa=c"], ["-f", "a=b", "-f", "a=c", "--"], {}),
        (["-a=false"], ["--"], {"all": False}),
        (["-qa=0"], ["--"], {"quiet": True, "all": False}),
        (["-a", "--all=false"], ["--"], {"all": False}),
        (["-a=false", "--all"], ["--"], {"all": True}),
        (["--message=text"], ["--message", "text", "--"], {}),
        (["--message="], ["--message", "", "--"], {}),
        (["--message", "--all"], ["--message", "--all", "--"], {}),
        (["x", "-a", "-"], ["--", "x", "-"], {"all": True}),
        (["-a", "--", "-q"], ["--", "-q"], {"all": True}),
        (["--help"], ["--help", "--"], {}),
        (["-h"], ["--help", "--"], {}),
    ],
)
def test_forms_of_flags(args: list[str], words: list[str], switches: dict[str, bool]) -> None:
    assert parsed(*args) == (words, switches)


def test_operands_come_after_a_double_dash() -> None:
    assert parsed("x", "-m=t", "y") == (["-m", "t", "--", "x", "y"], {})


def test_after_the_first_operand_of_some_commands_nothing_is_a_flag() -> None:
    found = parsed("-a", "image", "-q", "-m=x", "--", "--nope", interspersed=False)
    assert found == (["--", "image", "-q", "-m=x", "--", "--nope"], {"all": True})


WRONG = [
    ("-x", "unknown shorthand flag: 'x' in -x"),
    ("-ax", "unknown shorthand flag: 'x' in -x"),
    ("-ax=1", "unknown shorthand flag: 'x' in -x=1"),
    ("-a=", "unknown shorthand flag: '=' in -="),
    ("-n", "flag needs an argument: 'n' in -n"),
    ("-an", "flag needs an argument: 'n' in -n"),
    ("--last", "flag needs an argument: --last"),
    ("--nope=1", "unknown flag: --nope"),
    ("--=x", "bad flag syntax: --=x"),
    ("---x", "bad flag syntax: ---x"),
    (
        "-a=maybe",
        'invalid argument "maybe" for "-a, --all" flag: '
        'strconv.ParseBool: parsing "maybe": invalid syntax',
    ),
    (
        "--all=",
        'invalid argument "" for "-a, --all" flag: strconv.ParseBool: parsing "": invalid syntax',
    ),
]


@pytest.mark.parametrize(("word", "complaint"), WRONG)
def test_a_wrong_flag_is_refused_in_pflags_words(word: str, complaint: str) -> None:
    with pytest.raises(WrongFlag) as raised:
        parsed(word)
    assert str(raised.value) == complaint


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker's client is not installed")
@pytest.mark.parametrize(("word", "complaint"), WRONG)
def test_dockers_client_says_the_same(word: str, complaint: str) -> None:
    done = subprocess.run(["docker", "ps", word], capture_output=True, text=True, timeout=60)
    assert done.stderr.partition("\n")[0] == complaint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x", "invalid syntax"),
        ("", "invalid syntax"),
        (" 1", "invalid syntax"),
        ("1_0", "invalid syntax"),
        ("\N{ARABIC-INDIC DIGIT THREE}", "invalid syntax"),
        ("9223372036854775808", "value out of range"),
        ("-9223372036854775809", "value out of range"),
        ("9" * 5_000, "value out of range"),
    ],
)
def test_what_is_no_integer(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_integer(text)
    assert str(raised.value) == f'strconv.ParseInt: parsing "{text}": {reason}'


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("-1", -1), ("+7", 7), ("000" + "1" * 3, 111), (str(2**63 - 1), 2**63 - 1)],
)
def test_integers(text: str, value: int) -> None:
    assert parse_integer(text) == value
