"""A build on a terminal."""

from __future__ import annotations

import io

from mount_tools.build.watch import Shown
from mount_tools.cli.output.build_screen import Screen

FIRST = Shown(1, 12, 0, "", "FROM busy:1")
SECOND = Shown(2, 12, 1, "app", "RUN make \x1b]0;owned\x07[red]")


def test_a_line_for_each_step_and_a_summary() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.step_began(FIRST)
    screen.step_cached(FIRST, "0123456789ab")
    screen.step_began(SECOND)
    screen.output(SECOND, b"10%\r20%\rdone\nmore")
    screen.step_finished(SECOND, 1.25, "")
    screen.succeeded("0123", ["a:1"])
    screen.close()
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert "  cached [ 1/12] FROM busy:1" in lines
    assert r"    1.2s [ 2/12 app] RUN make \u001b]0;owned\u0007[red]" in lines
    assert any(line.endswith("1 step done, 1 cached") for line in lines)
    assert lines[-1] == "Tagged a:1"


def test_the_output_of_a_failed_step_is_shown() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.step_began(SECOND)
    screen.output(SECOND, b"one\n10%\r20%\rtwo\n\x1b[31mthree")
    screen.step_failed(SECOND)
    screen.close()
    shown = stream.getvalue()
    assert "      one\n      two\n" in shown
    assert r"      \u001b[31mthree" in shown
