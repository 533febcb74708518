"""A build as lines: docker's words, and one stage after the other."""

from __future__ import annotations

import io

from mount_tools.build.watch import Shown
from mount_tools.cli.output.build_lines import Lines, Silent


def stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8")


def text(written: io.TextIOWrapper) -> str:
    buffer = written.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


FIRST = Shown(1, 3, 0, "", "FROM busy:1")
SECOND = Shown(2, 3, 0, "", "RUN echo hi")
OTHER = Shown(3, 3, 1, "other", "RUN true")


def test_the_words_are_dockers() -> None:
    out = stream()
    lines = Lines(out)
    lines.step_began(FIRST)
    lines.step_finished(FIRST, 0, "0123456789ab")
    lines.step_began(SECOND)
    lines.step_running(SECOND, "ba9876543210")
    lines.output(SECOND, b"h\xff\n")
    lines.step_finished(SECOND, 1, "")
    lines.succeeded("abc", ["name:latest"])
    lines.close()
    assert out.buffer.getvalue() == (  # type: ignore[attr-defined]
        b"Step 1/3 : FROM busy:1\n ---> 0123456789ab\nStep 2/3 : RUN echo hi\n"
        b" ---> Running in ba9876543210\nh\xff\nSuccessfully built abc\n"
        b"Successfully tagged name:latest\n"
    )


def test_stages_side_by_side_are_shown_one_after_the_other() -> None:
    out = stream()
    lines = Lines(out)
    lines.step_began(SECOND)
    lines.step_began(OTHER)
    lines.output(OTHER, b"other\n")
    lines.output(SECOND, b"first\n")
    assert "other" not in text(out)
    lines.stage_ended(0)
    assert text(out).splitlines() == [
        "Step 2/3 : RUN echo hi",
        "first",
        "Step 3/3 : RUN true",
        "other",
    ]
    lines.output(OTHER, b"more\n")
    assert text(out).endswith("other\nmore\n")
    lines.close()


def test_what_waits_is_shown_when_the_build_ends() -> None:
    out = stream()
    lines = Lines(out)
    lines.step_began(SECOND)
    lines.step_began(OTHER)
    lines.step_cached(OTHER, "0123456789ab")
    lines.close()
    assert text(out).endswith("Step 3/3 : RUN true\n ---> Using cache\n ---> 0123456789ab\n")


def test_quiet_shows_only_what_fails() -> None:
    out = stream()
    silent = Silent(out)
    silent.note("warning")
    silent.step_began(SECOND)
    silent.output(SECOND, b"why\n")
    silent.step_finished(SECOND, 1, "")
    silent.close()
    assert text(out) == ""
    silent = Silent(out)
    silent.step_began(SECOND)
    silent.output(SECOND, b"why\n")
    silent.step_failed(SECOND)
    silent.close()
    assert text(out) == "Step 2/3 : RUN echo hi\nwhy\n"


def test_the_line_of_a_step_is_written_with_the_next_one() -> None:
    """A cached build of 100 steps makes 100 writes.  No line is lost."""
    out = stream()
    lines = Lines(out)
    lines.step_began(FIRST)
    assert text(out) == ""
    lines.step_finished(FIRST, 0, "")
    assert text(out) == "Step 1/3 : FROM busy:1\n"
    lines.step_began(SECOND)
    lines.step_failed(SECOND)
    assert text(out).endswith("Step 2/3 : RUN echo hi\n")
