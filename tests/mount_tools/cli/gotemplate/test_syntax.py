"""Templates are read as Go reads them, and refused with Go's words."""

from __future__ import annotations

import pytest

from mount_tools.cli.errors import TemplateError
from mount_tools.cli.gotemplate.syntax import (
    Action,
    Field,
    Literal,
    Text,
    functions_of,
    parse,
)


def test_text_and_actions_alternate() -> None:
    first, action, last = parse("a{{.B.C}}d")
    assert (first, last) == (Text("a"), Text("d"))
    assert isinstance(action, Action)
    assert action.pipe.commands == ((Field(("B", "C"), (3, 5)),),)


@pytest.mark.parametrize("text", ["a {{- .B -}} d", "a{{.B}}d"])
def test_trim_marks_take_the_space_around(text: str) -> None:
    nodes = parse(text)
    assert nodes[0] == Text("a")
    assert nodes[-1] == Text("d")


def test_braces_within_a_string_end_nothing() -> None:
    (action,) = parse('{{"}}"}}')
    assert isinstance(action, Action)
    assert action.pipe.commands == ((Literal("}}"),),)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{.ID", "template: :1: unclosed action"),
        ("{{/* x }}", "template: :1: unclosed comment"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{if .A}}x", "template: :1: unexpected EOF"),
        ("\n{{if}}{{end}}", "template: :2: missing value for if"),
        ("{{(.A}}", "template: :1: unclosed left paren"),
        ("{{.A | .B}}", "template: :1: non executable command in pipeline stage 2"),
        ("{{.A!}}", 'template: :1: unexpected "!" in operand'),
        ('{{define "x"}}{{end}}', "template: :1: {{define}} is not supported here"),
        ("{{if .A}}{{else}}{{else}}{{end}}", "template: :1: expected end; found {{else}}"),
    ],
)
def test_what_is_no_template_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(TemplateError) as raised:
        parse(text)
    assert str(raised.value) == complaint


def test_functions_are_found_however_deep() -> None:
    text = "{{range .A}}{{if (len .)}}{{.B | json}}{{else}}{{upper .C}}{{end}}{{end}}"
    assert functions_of(parse(text)) == ["len", "json", "upper"]
