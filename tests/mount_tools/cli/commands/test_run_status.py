"""How commands that run something begin and end: their stdin and their exit status."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore import Image
from layerstore.errors import Conflict, NoSuchImage, StoreError
from mount_tools.cli.commands import run_cmd
from mount_tools.cli.commands.run_status import discard, exit_with, take_stdin
from mount_tools.cli.errors import Exit, WrongWords
from mount_tools.container.handshake import CannotStart
from tests.helpers.children import run
from tests.helpers.cli import Cli


def fail(error: Exception) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [
        (lambda: 7, 7, ""),
        (fail(CannotStart(127, "not there")), 127, "Error: not there\n"),
        (fail(Conflict("no")), 125, "Error: no\n"),
        (fail(StoreError("broken")), 125, "Error: broken\n"),
        (
            fail(PermissionError(13, "Permission denied", "/x")),
            125,
            "Error: /x: Permission denied\n",
        ),
        (fail(NoSuchImage("a:1")), 125, "Error: No such image: a:1\n"),
    ],
)
def test_the_exit_status_is_the_commands_or_says_why_not(
    action: Callable[[], int], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit) as ended:
        exit_with(action)
    assert ended.value.status == status
    assert capsys.readouterr().err == said


def test_stdin_is_kept_only_for_an_interactive_command(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("lines")

    def read(interactive: bool) -> bytes:
        fd = os.open(tmp_path / "lines", os.O_RDONLY)
        os.dup2(fd, 0)
        take_stdin(interactive, False)
        return os.read(0, 10)

    def check() -> None:
        assert read(True) == b"lines"
        assert read(False) == b""

    run(check)


def test_a_terminal_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(WrongWords, match="not a TTY"):
        take_stdin(True, True)


def test_a_container_is_discarded_once(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        container = store.containers.create(base)
        discard(store, container)
        assert store.containers.list() == []
        discard(store, container)


def test_a_container_that_runs_all_the_same_is_not_discarded(cli: Cli, base: Image) -> None:
    """As one whose keeper does not answer: the error that says so is the one that is shown."""
    with cli.store() as store:
        container = store.containers.create(base, auto_remove=True)
        store.containers.started(container, os.getpid())
        discard(store, container)
        assert [one.id for one in store.containers.list()] == [container.id]


def test_a_failure_of_the_system_leaves_no_container_of_rm(
    cli: Cli, base: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(run_cmd, "run_container", fails)
    name = base.id.encoded
    assert "Too many open files" in cli.fails("run", "--rm", name, "true", status=125)
    assert cli.ok("ps", "-aq") == ""
    cli.fails("run", name, "true", status=125)
    assert len(cli.ok("ps", "-aq").split()) == 1, "as docker keeps it"
