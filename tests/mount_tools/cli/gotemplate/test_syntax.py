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
        ('{{"a}}', "template: :1: unterminated quoted string"),
        ("{{`a}}", "template: :1: unterminated raw quoted string"),
        (r'{{"\q"}}', "template: :1: invalid syntax"),
        (r'{{"\ud800"}}', "template: :1: invalid syntax"),
        (r'{{"\U00110000"}}', "template: :1: invalid syntax"),
        ("{{'a'}}", 'template: :1: unexpected "\'" in operand'),
        ("{{1a}}", 'template: :1: bad number syntax: "1a"'),
        ("{{1e999}}", 'template: :1: illegal number syntax: "1e999"'),
        ("{{9223372036854775808}}", 'template: :1: integer overflow: "9223372036854775808"'),
        ("{{%s}}" % ("9" * 5_000), f'template: :1: integer overflow: "{"9" * 5_000}"'),
        (
            "{{" + "(" * 2_000 + "1" + ")" * 2_000 + "}}",
            "template: :1: max expression depth exceeded",
        ),
        ("{{if 1}}" * 2_000 + "{{end}}" * 2_000, "template: :1: max expression depth exceeded"),
        (
            "{{if 1}}" + "{{else if 1}}" * 2_000 + "{{end}}",
            "template: :1: max expression depth exceeded",
        ),
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


@pytest.mark.parametrize(
    "text", ['{{"a" ' * 20_000, '{{"a" ' + '"a" ' * 20_000, "{{" + "`" * 60_001, "{{/*" * 20_000]
)
@pytest.mark.timeout(20)
def test_a_long_template_is_refused_without_trying_every_reading(text: str) -> None:
    with pytest.raises(TemplateError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{-7}}", -7),
        ("{{0x1F}}", 31),
        ("{{017}}", 15),
        ("{{1.5e3}}", 1500.0),
        ("{{9223372036854775807}}", 2**63 - 1),
        (r'{{"a\tb\x41\u00e9\101"}}', "a\tbAéA"),
        (r'{{"\xc3\xa9\xff"}}', "é\udcff"),
        (r"{{`a\n`}}", r"a\n"),
    ],
)
def test_constants(text: str, value: int | float | str) -> None:
    (action,) = parse(text)
    assert isinstance(action, Action)
    assert action.pipe.commands == ((Literal(value),),)
