"""What is wrong with a command line is printed as it is, with the exit status it carries."""

from __future__ import annotations

import pytest

from mount_tools.cli.errors import TemplateError, WrongWords
from tests.helpers.cli import Cli


@pytest.mark.parametrize("status", [1, 64, 125])
def test_wrong_words_are_all_that_is_printed(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    def wrong(*_: object, **__: object) -> None:
        raise WrongWords("two\nlines", status)

    monkeypatch.setattr("mount_tools.cli.commands.images_cmd.selected", wrong)
    assert cli.fails("images", status=status) == "two\nlines\n"


def test_a_template_error_says_what_it_is(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object, **__: object) -> None:
        raise TemplateError("template: :1: oops")

    monkeypatch.setattr("mount_tools.cli.commands.images_cmd.selected", wrong)
    assert cli.fails("images") == "template parsing error: template: :1: oops\n"
