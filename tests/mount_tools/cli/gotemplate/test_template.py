"""`--format` templates do what docker's client does with them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mount_tools.cli.errors import TemplateError
from mount_tools.cli.gotemplate.functions import FUNCTIONS
from mount_tools.cli.gotemplate.template import Template
from mount_tools.cli.gotemplate.values import Labels, Row, Value
from tests.helpers.effort import examples

OBJECT: Value = {
    "Id": "sha256:1",
    "Config": {"Env": ["A=b", "C=d"], "Cmd": None, "Labels": Labels(x="1")},
    "State": {"Running": False, "ExitCode": 3},
    "RootFS": {"Layers": ["one", "two"]},
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{.Id}}", "sha256:1"),
        ("{{json .Config.Env}}", '["A=b","C=d"]'),
        ("{{.Config.Env}}", "[A=b C=d]"),
        ("{{index .Config.Env 1}}", "C=d"),
        ('{{index .Config.Labels "x"}}', "1"),
        ('{{index .Config.Labels "y"}}', ""),
        ("{{.Config.Labels.y}}", "<no value>"),
        ("{{range .RootFS.Layers}}{{.}} {{end}}", "one two "),
        ("{{range $i, $l := .RootFS.Layers}}{{$i}}{{$l}}{{end}}", "0one1two"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}yes{{else}}no{{end}}", "no"),
        ("{{if eq .State.ExitCode 0}}a{{else if eq .State.ExitCode 3}}b{{else}}c{{end}}", "b"),
        ("{{with .State}}{{.ExitCode}} {{$.Id}}{{end}}", "3 sha256:1"),
        ("{{len .RootFS.Layers}}", "2"),
        ('{{.Id | printf "%-10s|"}}', "sha256:1  |"),
        ("{{(index .RootFS.Layers 0) | upper}}", "ONE"),
        ("{{$x := .Id}}{{$x}}", "sha256:1"),
        ("{{$x := 1}}{{range .RootFS.Layers}}{{$x = .}}{{end}}{{$x}}", "two"),
        ("{{or .Config.Cmd .Id}} {{and .Config.Cmd .Config.Cmd.Nope}}", "sha256:1 <no value>"),
    ],
)
def test_rendering(text: str, result: str) -> None:
    assert Template(text).render(OBJECT) == result


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "{{.Nope}}",
            'template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope"',
        ),
        (
            "{{.Config.Nope}}",
            'template: :1:9: executing "" at <.Config.Nope>: map has no entry for key "Nope"',
        ),
        ("{{nope .Id}}", 'template: :1: function "nope" not defined'),
        (
            "{{json and}}",
            'template: :1:7: executing "" at <and>: wrong number of args for and: '
            "want at least 1 got 0",
        ),
        (
            "{{or}}",
            'template: :1:2: executing "" at <or>: wrong number of args for or: '
            "want at least 1 got 0",
        ),
        (
            "{{upper}}",
            'template: :1:2: executing "" at <upper>: wrong number of args for upper: want 1 got 0',
        ),
        ("{{$nope}}", 'template: :1: undefined variable "$nope"'),
        ("{{range .Id}}{{end}}", "range can't iterate over sha256:1"),
        ("{{.Id 1}}", "template: :1: can't give argument to non-function .Id"),
        (
            "{{.Id.X}}",
            'template: :1:5: executing "" at <.Id.X>: can\'t evaluate field X in type string',
        ),
        (
            "{{index .RootFS.Layers 2}}",
            'template: :1:2: executing "" at <index>: error calling index: index out of range: 2',
        ),
    ],
)
def test_what_does_not_fit_is_an_error_in_gos_words(text: str, complaint: str) -> None:
    with pytest.raises(TemplateError) as raised:
        Template(text).render(OBJECT)
    assert str(raised.value) == complaint


def test_a_row_has_the_name_of_its_go_type_in_errors() -> None:
    row = Row(ID="1")
    row.type_name = "*formatter.imageContext"
    with pytest.raises(TemplateError) as raised:
        Template("{{.Nope}}").render(row)
    assert str(raised.value) == (
        'template: :1:2: executing "" at <.Nope>: '
        "can't evaluate field Nope in type *formatter.imageContext"
    )


@pytest.mark.parametrize("text", ["{{upper 1}}", "{{join .Id}}", "{{truncate .Id}}", "{{len 1}}"])
def test_a_wrong_argument_is_an_error_and_no_traceback(text: str) -> None:
    with pytest.raises(TemplateError, match="executing"):
        Template(text).render(OBJECT)


def test_the_deepest_template_runs() -> None:
    assert Template("{{" + "(" * 99 + ".Id" + ")" * 99 + "}}").render(OBJECT) == "sha256:1"
    assert Template("{{if 1}}" * 99 + "x" + "{{end}}" * 99).render(OBJECT) == "x"


PIECES = [
    *(
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        "(",
        ")",
        "|",
        ":=",
        "=",
        ",",
        "$",
        "$x",
        ".",
        ".Id",
        ".State",
    ),
    *(
        ".Id",
        ".State",
        ".Config.Labels.x",
        ".RootFS.Layers",
        "text",
        '"%*d %.1000001f %q"',
        "`a`",
        "nil",
        "true",
    ),
    *("0", "-1", "99999999999", "1.5", "0x7fffffffffffffff", "if", "range", "with", "else", "end"),
    *("and", "or", *FUNCTIONS),
]
ACTIONS = st.lists(st.sampled_from(PIECES[4:]), min_size=1, max_size=6).map(
    lambda words: f"{{{{{' '.join(words)}}}}}"
)


@settings(max_examples=examples(900), deadline=None)
@given(
    st.one_of(
        st.lists(st.sampled_from(PIECES), max_size=20).map("".join),
        st.lists(ACTIONS, max_size=5).map("".join),
    )
)
def test_any_text_gives_text_or_a_template_error(text: str) -> None:
    try:
        found = Template(text).render(OBJECT)
    except TemplateError:
        return
    assert isinstance(found, str)
