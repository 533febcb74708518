"""One set of rows in all the forms a listing has."""

from __future__ import annotations

import json
import os

import pytest

from mount_tools.cli.errors import TemplateError
from mount_tools.cli.gotemplate.values import Row
from mount_tools.cli.output.listing import Listing, as_json

LISTING = Listing({"ID": "IMAGE ID", "Tag": "TAG", "Size": "SIZE"}, ("Tag", "ID"))
ROWS = [Row(ID="fcbfba63d1eb", Tag="1", Size="2kB"), Row(ID="00340ac76a44", Tag="<none>", Size="")]


def test_the_plain_table_and_the_one_asked_for_by_name() -> None:
    table = "TAG       IMAGE ID\n1         fcbfba63d1eb\n<none>    00340ac76a44\n"
    assert LISTING.text(ROWS) == table
    assert LISTING.text(ROWS, "table") == table


def test_a_table_of_ones_own() -> None:
    text = LISTING.text(ROWS, r"table {{.ID}}\t{{upper .Size}}\t{{json .Tag}}")
    assert text == (
        "IMAGE ID       SIZE      TAG\n"
        'fcbfba63d1eb   2KB       "1"\n'
        '00340ac76a44             "<none>"\n'
    )


def test_quiet_is_ids_unless_a_template_says_otherwise() -> None:
    assert LISTING.text(ROWS, quiet=True) == "fcbfba63d1eb\n00340ac76a44\n"
    assert LISTING.text(ROWS, "table {{.Tag}}", quiet=True) == "fcbfba63d1eb\n00340ac76a44\n"
    assert LISTING.text(ROWS, "{{.Tag}}", quiet=True) == "1\n<none>\n"


def test_a_line_for_each_row_and_tabs_written_as_they_are_typed() -> None:
    assert LISTING.text(ROWS, r"{{.Tag}}\t{{.ID}}") == "1\tfcbfba63d1eb\n<none>\t00340ac76a44\n"
    assert LISTING.text(ROWS[1:], "json") == (
        '{"ID":"00340ac76a44","Size":"","Tag":"\\u003cnone\\u003e"}\n'
    )
    assert LISTING.text([], "{{.Tag}}") == ""


def test_what_the_template_gets_wrong_is_said() -> None:
    with pytest.raises(TemplateError):
        LISTING.text(ROWS, "{{.Nope}}")
    with pytest.raises(TemplateError):
        LISTING.text([], "table {{.Nope}}")


def test_json_is_one_array() -> None:
    assert json.loads(as_json([{"id": "é", "size": 1}])) == [{"id": "é", "size": 1}]
    assert as_json([]) == "[]\n"


def test_json_of_a_name_that_is_no_utf8_is_valid_json() -> None:
    name = os.fsdecode(b"a\xffb")
    printed = as_json([{"path": name}])
    assert json.loads(printed.encode()) == [{"path": name}]
    assert r"a\udcffb" in printed
