"""Help reads like docker's."""

from __future__ import annotations

from inspect import cleandoc

import pytest

from mount_tools.cli import framework
from mount_tools.cli.errors import Exit
from mount_tools.cli.framework import Command, Group, command
from mount_tools.cli.help_pages import without_indent
from mount_tools.cli.invocation import Invocation
from mount_tools.cli.main import top


@command("Do a thing", "THING [THING...]", most=None)
@framework.flag("-a", "--all", says="All of them")
@framework.flag("--pause", says="Pause (default true)", default=True)
@framework.number("-n", "--last", says="How many", default=-1)
@framework.texts("-e", "--env", says="Variables")
@framework.filters(says="Which ones")
def thing(*_: object) -> None:
    """Further text, of several
    lines."""


def shown(one: Command | Group, path: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(Exit) as ended:
        one.run(
            path, ["x", "--help"] if isinstance(one, Command) else ["-h"], Invocation("/nowhere")
        )
    assert ended.value.status == 0
    return capsys.readouterr().out


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(thing, "pyunion thing", capsys) == (
        "\n"
        "Usage:  pyunion thing [OPTIONS] THING [THING...]\n"
        "\n"
        "Do a thing\n"
        "\n"
        "Further text, of several\n"
        "lines.\n"
        "\n"
        "Options:\n"
        "  -a, --all             All of them\n"
        "  -e, --env list        Variables\n"
        "  -f, --filter filter   Which ones\n"
        "  -n, --last int        How many\n"
        "      --pause           Pause (default true)\n"
        "\n"
        "Exit status:\n"
        "  0     done\n"
        "  1     failed, for the reason that the message gives\n"
        "  125   a flag is wrong\n"
    )


def test_help_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    group = Group("image", "Manage images", {"tag": "tag_cmd.tag", "list": "images_cmd.images"})
    assert shown(group, "pyunion image", capsys) == (
        "\nUsage:  pyunion image COMMAND\n\nManage images\n\n"
        "Commands:\n  tag   Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE\n\n"
        "Run 'pyunion image COMMAND --help' for more on a command.\n"
    )


@pytest.mark.parametrize(
    "docstring",
    [
        "",
        "One line.",
        " One\n    two\n\n      three\n    ",
        "One\n\n    two\n",
        "\n    one\n    two",
    ],
)
def test_indent_is_taken_from_a_docstring_as_inspect_does(docstring: str) -> None:
    assert without_indent(docstring) == cleandoc(docstring)


def test_help_is_as_wide_as_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def widest(columns: str) -> int:
        monkeypatch.setenv("COLUMNS", columns)
        return max(map(len, shown(top, "pyunion", capsys).partition("Management")[0].splitlines()))

    assert [widest(columns) <= int(columns) for columns in ("70", "100")] == [True, True]
    assert widest("100") > 80
    assert widest("0") == widest("wide")
