"""`pyunion pause` and `unpause`: docker's words, and a note where signals have to do."""

from __future__ import annotations

import pytest

from layerstore import Image
from mount_tools.container import pausing
from tests.helpers.cli import Cli


def test_each_name_is_echoed_and_a_note_says_how(
    cli: Cli, base: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cli.store() as store:
        store.containers.create(base, name="box")
    asked: list[str] = []

    def pause(container: object) -> str | None:
        asked.append(getattr(container, "name", ""))
        return reason

    monkeypatch.setattr(pausing, "pause", pause)
    reason: str | None = None
    assert cli("pause", "box") == (0, "box\n", "")
    reason = "no control group"
    said = "box is paused by SIGSTOP, which its processes can notice: no control group\n"
    assert cli("pause", "box") == (0, "box\n", said)
    assert asked == ["box", "box"]


def test_what_does_not_run(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        box = store.containers.create(base, name="box")
    for word in ("pause", "unpause"):
        assert cli.fails(word, "box") == f"Error: Container {box.id} is not running\n"
        assert cli.fails(word, "nope") == "Error: No such container: nope\n"
