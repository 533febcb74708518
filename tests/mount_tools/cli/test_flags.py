"""Command lines are split as pflag splits them; the expectations were run on docker's client."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from mount_tools.cli.flags import FlagParser, Option, WrongFlag, parse_integer, parse_pair
from tests.helpers.mounts import DEADLINE

OPTIONS = [
    Option("-a", "--all", says="", default=False),
    Option("-q", "--quiet", says="", default=False),
    Option("-m", "--message", says="", metavar="string"),
    Option("-n", "--last", says="", metavar="int", default=0, convert=parse_integer),
    Option("-f", "--filter", "wanted", says="", metavar="f", multiple=True, convert=parse_pair),
]


def parser_of(*args: str, interspersed: bool = True) -> FlagParser:
    parser = FlagParser(OPTIONS, interspersed=interspersed)
    parser.parse(args)
    return parser


def parsed(*args: str, interspersed: bool = True) -> tuple[dict[str, object], list[str]]:
    """Return the values that are not the usual ones, and the operands."""
    found = parser_of(*args, interspersed=interspersed)
    usual = {"all": False, "quiet": False, "message": None, "last": 0, "wanted": ()}
    values = {name: value for name, value in found.values.items() if value != usual[name]}
    return values, found.operands


@pytest.mark.parametrize(
    ("args", "values", "operands"),
    [
        ([], {}, []),
        (["-m", "text"], {"message": "text"}, []),
        (["-mtext"], {"message": "text"}, []),
        (["-m=text"], {"message": "text"}, []),
        (["-m=a=b"], {"message": "a=b"}, []),
        (["-m==b"], {"message": "=b"}, []),
        (["-m="], {"message": "="}, []),
        (["-m", ""], {"message": ""}, []),
        (["-m", "-a"], {"message": "-a"}, []),
        (["-m", "--"], {"message": "--"}, []),
        (["-m", "1", "--message=2"], {"message": "2"}, []),
        (["-aqm=text"], {"message": "text", "all": True, "quiet": True}, []),
        (["-am", "text", "x"], {"message": "text", "all": True}, ["x"]),
        (["-an=5"], {"last": 5, "all": True}, []),
        (["-an5"], {"last": 5, "all": True}, []),
        (["-f=a=b", "-fa=c"], {"wanted": (("a", "b"), ("a", "c"))}, []),
        (["-q", "-a=false"], {"quiet": True}, []),
        (["-qa=0"], {"quiet": True}, []),
        (["-a", "--all=false"], {}, []),
        (["-a=false", "--all"], {"all": True}, []),
        (["--message=text"], {"message": "text"}, []),
        (["--message="], {"message": ""}, []),
        (["--message", "--all"], {"message": "--all"}, []),
        (["x", "-a", "-"], {"all": True}, ["x", "-"]),
        (["-a", "--", "-q"], {"all": True}, ["-q"]),
        (["x", "-m=t", "y"], {"message": "t"}, ["x", "y"]),
    ],
)
def test_forms_of_flags(args: list[str], values: dict[str, object], operands: list[str]) -> None:
    assert parsed(*args) == (values, operands)


@pytest.mark.parametrize("word", ["--help", "-h", "-ah"])
def test_help_is_asked_for_anywhere(word: str) -> None:
    assert parser_of("x", word, "y").asks_help
    assert not parser_of("x", "--", word).asks_help


def test_after_the_first_operand_of_some_commands_nothing_is_a_flag() -> None:
    found = parsed("-a", "image", "-q", "-m=x", "--", "--nope", interspersed=False)
    assert found == ({"all": True}, ["image", "-q", "-m=x", "--", "--nope"])


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
    done = subprocess.run(["docker", "ps", word], capture_output=True, text=True, timeout=DEADLINE)
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
