"""The manual pages are current, complete, and valid roff."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mount_tools import manual
from mount_tools.cli.framework import Command, Group
from mount_tools.cli.help_text import EXAMPLES
from mount_tools.cli.main import top

MAN = Path(__file__).parents[2] / "man"
PAGES = manual.pages()


def test_the_pages_in_git_are_current() -> None:
    kept = {path.name: path.read_text(encoding="utf-8") for path in MAN.iterdir()}
    assert kept == PAGES, "run `python -m mount_tools.manual man`"


def test_every_command_has_a_page_with_all_its_flags() -> None:
    for name in top.names():
        page = PAGES[f"pyunion-{name}.1"]
        command = top.find(name)
        assert command is not None
        assert f'.TH PYUNION-{name.upper()} 1 "' in page
        if isinstance(command, Group):
            continue
        assert ".SH EXIT STATUS\n" in page
        assert (".SH EXAMPLES\n" in page) == (name in EXAMPLES)
        for option in command.options:
            assert all(one.replace("-", r"\-") in page for one in option.names), option.names


@pytest.mark.parametrize("words", EXAMPLES)
def test_every_example_is_a_command_line_that_is_understood(words: str) -> None:
    import shlex

    *groups, name = words.split()
    group: Group = top
    for above in groups:
        found = group.find(above)
        assert isinstance(found, Group)
        group = found
    command = group.find(name)
    assert isinstance(command, Command)
    for line, _ in EXAMPLES[words]:
        ours = next(part for part in line.split("|") if f"pyunion {words}" in part)
        command.values(f"pyunion {words}", shlex.split(ours)[2 + len(groups) :])


def test_help_has_the_examples(capsys: pytest.CaptureFixture[str]) -> None:
    from mount_tools.cli.main import main

    assert main(["check", "--help"]) == 0
    said = capsys.readouterr().out
    assert "Examples:\n  pyunion check --quick\n      look at names, sizes and times only\n" in said
    assert said.endswith("  125   a flag is wrong\n")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_valid(name: str, tmp_path: Path) -> None:
    page = tmp_path / name
    page.write_text(PAGES[name], encoding="utf-8")
    if shutil.which("mandoc"):
        words = ["mandoc", "-T", "lint", "-W", "warning", str(page)]
    elif shutil.which("groff"):
        words = ["groff", "-man", "-ww", "-z", "-Tutf8", str(page)]
    else:
        pytest.skip("neither mandoc nor groff is installed")
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_what_is_to_be_typed_is_ascii() -> None:
    shown = subprocess.run(
        ["groff", "-man", "-Tutf8", "-P-cbou"],
        input=PAGES["pyunion-commit.1"],
        capture_output=True,
        text=True,
    ).stdout
    assert "pyunion commit -m 'with tools' box debian:tools" in shown
    assert "--prune-unchanged" in shown


@pytest.mark.slow
def test_an_installation_has_the_pages_and_the_marks_of_types(tmp_path: Path) -> None:
    """What a wheel holds: bdist_wheel packs what `install --root` installs."""
    pytest.importorskip("setuptools")
    source = MAN.parent
    for name in ("unionfs", "layerstore", "mount_tools", "man", "bin"):
        shutil.copytree(source / name, tmp_path / "src" / name)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(source / name, tmp_path / "src")
    words = ["install", "--root", "../out", "--prefix", "/usr", "--record", "../record"]
    words.append("--single-version-externally-managed")
    subprocess.run(
        [sys.executable, "-c", "import setuptools; setuptools.setup()", *words],
        cwd=tmp_path / "src",
        capture_output=True,
        check=True,
    )
    assert {path.name for path in (tmp_path / "out/usr/bin").iterdir()} == {
        "mount.pyunion",
        "pyunion",
    }
    share = tmp_path / "out/usr/share/man"
    assert {path.name for path in share.rglob("*.[18]")} == set(PAGES)
    assert [path.name for path in (share / "man8").iterdir()] == ["mount.pyunion.8"]
    marked = {path.parent.name for path in (tmp_path / "out").rglob("py.typed")}
    assert marked == {"unionfs", "layerstore", "mount_tools"}
