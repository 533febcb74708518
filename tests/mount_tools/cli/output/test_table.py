"""Tables are laid out as docker's, character for character."""

from __future__ import annotations

import sys

import pytest

from mount_tools.cli.output.table import aligned


def test_columns_are_at_least_ten_wide_and_three_spaces_apart() -> None:
    lines = [
        ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"),
        ("busy", "1", "fcbfba63d1eb", "1 second ago", "1.98MB"),
    ]
    assert aligned(lines) == (
        "REPOSITORY   TAG       IMAGE ID       CREATED        SIZE\n"
        "busy         1         fcbfba63d1eb   1 second ago   1.98MB\n"
    )


def test_a_heading_stands_alone_over_nothing() -> None:
    assert aligned([("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE")]) == (
        "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
    )


def test_an_ellipsis_counts_as_one_column_and_a_line_break_as_a_space() -> None:
    assert aligned([("sh -c 'e…", "x"), ("a\nb", "y")]) == "sh -c 'e…   x\na b         y\n"


def test_columns_fit_what_a_terminal_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [("a\x1b[2J\x9bb\x7f", "é"), ("", "x")]
    assert aligned(lines) == "a\x1b[2J\x9bb\x7f   é\n" + " " * 11 + "x\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert aligned(lines) == r"a\u001b[2J\u009bb\u007f   é" + "\n" + " " * 26 + "x\n"
