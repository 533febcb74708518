"""The command line as a whole: what there is, and what a failure looks like."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from layerstore import Image
from layerstore.errors import StoreError
from mount_tools.cli import main
from mount_tools.cli.commands import groups
from mount_tools.cli.framework import Command, Group
from tests.helpers.cli import Cli

PYUNION = Path(sys.executable).with_name("pyunion")


@pytest.mark.parametrize("group", [main.top, groups.image, groups.container, groups.system])
def test_every_command_is_where_it_is_said_to_be(group: Group) -> None:
    for name in group.members:
        found = group.find(name)
        assert isinstance(found, Command | Group), name
        assert found.summary


def test_help_lists_what_there_is(cli: Cli) -> None:
    result = cli("--help")
    assert result.status == 0
    assert "\nUsage:  pyunion [OPTIONS] COMMAND\n" in result.out
    assert re.search(r"\n  images +List images\n", result.out)
    assert cli("image").err.startswith("\nUsage:  pyunion image COMMAND\n\nManage images\n")
    assert cli("image").status == 0


def test_help_is_a_word_too(cli: Cli) -> None:
    for words in ((), ("run",), ("image", "ls")):
        assert cli.ok("help", *words) == cli.ok(*words, "--help")
    assert cli.fails("help", "nope") == cli.fails("nope")


def test_no_such_command(cli: Cli) -> None:
    assert cli.fails("nope") == (
        "pyunion: 'nope' is not a pyunion command.\nSee 'pyunion --help'\n"
    )
    assert cli.fails("comit") == (
        "pyunion: 'comit' is not a pyunion command. Did you mean 'commit'?\nSee 'pyunion --help'\n"
    )
    assert cli.fails("image", "tga") == (
        "pyunion: 'image tga' is not a pyunion command. Did you mean 'tag'?\n"
        "See 'pyunion image --help'\n"
    )
    assert cli.fails("--nope", status=125) == "unknown flag: --nope\nSee 'pyunion --help'.\n"


def test_a_store_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = Cli(tmp_path / "file/store").fails("images")
    assert error.startswith("Error: ")
    assert "file/store" in error


def test_a_bug_is_a_sentence_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("layerstore.images.images.ImageStore.list", broken)
    result = cli("images")
    assert result.status == 1
    assert "a bug in PyUnion" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (ZeroDivisionError("oops"), "ZeroDivisionError: oops"),
        (StoreError("no such thing"), "Error: no such thing"),
        (OSError(errno.EIO, "bad disk"), "Error: bad disk"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_has_a_traceback_if_that_is_wanted(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception, last: str
) -> None:
    monkeypatch.setattr("layerstore.images.images.ImageStore.list", Mock(side_effect=error))
    monkeypatch.setenv("PYUNION_DEBUG", "1")
    result = cli("images")
    assert result.status == 1
    assert result.err.startswith("Traceback") and result.err.splitlines()[-1] == last


def test_interrupted(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object, *_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("layerstore.images.images.ImageStore.list", interrupted)
    assert cli("images").status == 130


@pytest.mark.usefixtures("child")
def test_any_locale_and_closed_streams_will_do(cli: Cli) -> None:
    words = [str(PYUNION), "--root", str(cli.root), "history", "changed:1"]
    plain = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(words, env=plain, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "motd;…".encode() in done.stdout
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *words], capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")


FULL = "Error: the output cannot be written: No space left on device\n"


@pytest.mark.usefixtures("child")
@pytest.mark.parametrize(
    "words",
    [["history", "changed:1"], ["run", "--help"], ["--version"], ["--help"]],
)
def test_output_that_cannot_be_written_is_an_error_said_once(cli: Cli, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PYUNION, f"--root={cli.root}", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (1, FULL)


def test_completions_that_cannot_be_written_are_an_error() -> None:
    plain = {**os.environ, "_PYUNION_COMPLETE": "bash_source"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PYUNION], env=plain, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, FULL)


def test_an_error_that_cannot_be_written_is_an_exit_status(cli: Cli) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([PYUNION, "--root", cli.root, "run", "--nope"], stderr=full)
    assert done.returncode == 125


@pytest.mark.usefixtures("base")
def test_nobody_reads(cli: Cli) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [PYUNION, "--root", cli.root, "images"], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_root_comes_from_the_environment(cli: Cli, base: Image) -> None:
    done = subprocess.run(
        [PYUNION, "images", "-q"],
        env={**os.environ, "PYUNION_ROOT": str(cli.root)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{base.id.short}\n", "")


def test_starting_imports_nothing_heavy(cli: Cli) -> None:
    """`images` is to answer at once: what takes long to import is for those who need it."""
    program = (
        "import sys; from mount_tools.pyunion import main;"
        f"main(['--root', {str(cli.root)!r}, 'images']);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    heavy = {
        *("asyncio", "click", "dataclasses", "hashlib", "inspect", "isal", "logging", "pyfuse3"),
        *("rich", "ssl", "subprocess", "tempfile", "traceback", "trio", "zstandard"),
    }
    assert not heavy & set(done.stderr.split())


def leaves(group: Group = main.top, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the words of every command there is."""
    found = []
    for name in group.members:
        member = group.find(name)
        words = (*prefix, name)
        found.extend(leaves(member, words) if isinstance(member, Group) else [words])
    return found


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_every_command_has_help_and_refuses_flags_it_does_not_know(
    cli: Cli, words: tuple[str, ...]
) -> None:
    line = " ".join(("pyunion", *words))
    assert f"\nUsage:  {line}" in cli.ok(*words, "--help")
    assert cli.fails(*words, "--nope", status=125) == (
        f"unknown flag: --nope\nSee '{line} --help'.\n"
    )


MISSING = {
    "image": [
        "create --pull never nope", "diff busy:1 nope", "history nope", "image inspect nope",
        "layers nope", "rmi nope", "save nope", "tag nope x", "which / nope",
        "images -f since=nope",
    ],
    "container": [
        "commit nope", "container inspect nope", "diff nope", "exec nope ls", "export nope",
        "mount nope /mnt", "ps -f before=nope", "rm nope", "start nope", "stop nope",
        "umount nope",
    ],
}  # fmt: skip


@pytest.mark.parametrize("line", [*MISSING["image"], *MISSING["container"]])
@pytest.mark.usefixtures("base")
def test_what_is_not_there_is_named(cli: Cli, line: str) -> None:
    error = cli.fails(*line.split())
    assert error.startswith("Error: No such ")
    assert "nope" in error


@pytest.mark.parametrize("line", [text for text in MISSING["image"] if "images" not in text])
@pytest.mark.usefixtures("base")
def test_what_is_no_name_at_all_is_refused(cli: Cli, line: str) -> None:
    error = cli.fails(*line.replace("nope", "No!pe").split())
    assert error.startswith(("Error: invalid reference format", "Error: No such "))


@pytest.mark.parametrize("line", MISSING["container"])
def test_the_beginning_of_several_ids_is_refused(cli: Cli, base: Image, line: str) -> None:
    with cli.store() as store:
        made = [store.containers.create(base).id for _ in range(17)]
    begun = next(one[0] for one in made if sum(other[0] == one[0] for other in made) > 1)
    error = cli.fails(*line.replace("nope", begun).split())
    assert f"multiple IDs found with provided prefix: {begun}" in error


LISTINGS = ("images", "ps", "layers", "which / x", "history x", "system df", "info", "version")


@pytest.mark.parametrize("line", LISTINGS)
def test_one_form_of_output_at_a_time(cli: Cli, line: str) -> None:
    error = cli.fails(*line.split(), "--json", "--format", "{{.ID}}", status=125)
    assert error.startswith("conflicting options: --json and --format\n")


def test_ids_and_json_are_two_forms_too(cli: Cli) -> None:
    error = cli.fails("images", "--json", "-q", status=125)
    assert error.startswith("conflicting options: --json and --quiet\n")
