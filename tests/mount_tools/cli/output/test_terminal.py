"""A terminal obeys nothing that an image says of itself; a pipe gets it as it is."""

from __future__ import annotations

import contextlib
import io
import json
import os

import pytest

from mount_tools.cli.main import main
from mount_tools.cli.output.terminal import escaped, for_stream, one_line
from tests.helpers.cli import Cli
from tests.helpers.images import add_image
from tests.helpers.terminals import Terminal

EVIL = "a\x1b]0;owned\x07b\x9bc\u202ed\x7f"
SHOWN = r"a\u001b]0;owned\u0007b\u009bc\u202ed\u007f"


def test_control_characters_are_escaped_and_lines_stay() -> None:
    assert escaped(EVIL + "\n\té") == SHOWN + "\n\té"
    assert one_line(EVIL + "\n\té") == SHOWN + r"\n\té"
    assert escaped("\udc9b\ud800") == r"\x9b\ud800"
    assert escaped(escaped(EVIL)) == escaped(EVIL)


def test_what_is_shown_is_json_still() -> None:
    said = json.dumps([EVIL], ensure_ascii=False)
    assert json.loads(escaped(said)) == [EVIL]


def test_a_stream_that_is_no_terminal_gets_the_text_as_it_is() -> None:
    assert for_stream(EVIL, io.StringIO()) == EVIL


@pytest.fixture
def evil(cli: Cli) -> Cli:
    """An image whose label, environment, command, history and one path are hostile."""
    with cli.store() as store:
        image = add_image(
            store,
            {f"etc/{EVIL}": b"x"},
            names=["evil:1"],
            created="2020-02-03T04:05:06Z",
            history=[{"created": "2020-02-03T04:05:06Z", "created_by": EVIL, "comment": EVIL}],
            config={"Cmd": [EVIL], "Env": [f"A={EVIL}"], "Labels": {EVIL: EVIL}},
        )
        box = store.containers.create(image, name="box", config={"Cmd": [EVIL]})
        (box.upper / EVIL).write_bytes(b"")
    return cli


@pytest.fixture
def terminal() -> Terminal:
    return Terminal(24, 200)


EVERYWHERE = [
    *("history evil:1", "history --json evil:1", "history --no-trunc --format {{.Comment}} evil:1"),
    *(
        "inspect evil:1",
        "inspect -f {{.Config.Env}} evil:1",
        "inspect -f {{.Config.Labels}} evil:1",
    ),
    *(
        "inspect -f {{json_.Config}} evil:1",
        "inspect box",
        "ps -a",
        "ps -a --no-trunc",
        "ps -a --json",
    ),
    *("diff box", "diff --json box", "inspect nope\x1b[2J", "images -f nope\x1b[2J=1"),
    *("inspect -f {{.Nope}}\x1b[2J evil:1", "nope\x1b[2J", "images --nope\x1b[2J", "check"),
]


@pytest.mark.parametrize("line", EVERYWHERE)
def test_nothing_on_a_terminal_obeys_an_image(evil: Cli, line: str, terminal: Terminal) -> None:
    words = [word.replace("_", " ") for word in line.split(" ")]
    with (
        open(os.dup(terminal.program), "w") as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
    ):
        status = main(["--root", str(evil.root), *words])
    os.write(terminal.program, b"<end>")
    seen = terminal.await_text(b"<end>").replace(b"\r\n", b"\n").decode()
    terminal.close()
    assert status in (0, 1, 64, 125)
    assert "a bug in PyUnion" not in seen
    assert seen == escaped(seen)
    assert len(seen) > len("<end>")


@pytest.mark.parametrize("line", ["inspect -f {{index_.Config.Env_0}} evil:1", "diff box"])
def test_a_pipe_gets_the_very_characters(evil: Cli, line: str) -> None:
    words = [word.replace("_", " ") for word in line.split(" ")]
    assert EVIL in evil.ok(*words)
