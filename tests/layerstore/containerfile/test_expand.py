"""Variables: BuildKit's own cases, and which parts of which instruction they are replaced in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerstore.containerfile.errors import ContainerfileError, Location
from layerstore.containerfile.expand import Expander
from layerstore.containerfile.grammar import Words
from layerstore.containerfile.instructions import (
    Add,
    Arg,
    CacheMount,
    Cmd,
    Copy,
    Default,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Pair,
    Run,
    SecretMount,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from layerstore.containerfile.parse import parse

AT = Location("f", 7, 7, "ENV x")
# What the cases are written for; NULL is set and empty.
VALUES = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": ""}

# (word, what it becomes, None for an error): those of buildkit `shell/envVarTest`.
WORDS: list[tuple[str, str | None]] = [
    ("wello", "wello"),
    ("we'll'o", "wello"),
    ("we'llo", None),
    ("we\\'llo", "we'llo"),
    ("we\\\\'llo", None),
    ("abc\\tdef", "abctdef"),
    ('"abc\\tdef"', "abc\\tdef"),
    ('"abc\\\\tdef"', "abc\\tdef"),
    ("'abc\\tdef'", "abc\\tdef"),
    ("wello\\", "wello"),
    ("wello\\\\", "wello\\"),
    ('"wello', None),
    ('"wello\\"', None),
    ('"wel\'lo"', "wel'lo"),
    ("'wello", None),
    ("'wello\\'", "wello\\"),
    ("'wello\\twere'", "wello\\twere"),
    ("'wello\\\\twere'", "wello\\\\twere"),
    ("\"''\"", "''"),
    ("$.", "$."),
    ("we$1x", "wex"),
    ("we$.x", "we$.x"),
    ("we$pwd.", "we."),
    ("we$PWD", "we/home"),
    ("we\\$PWD", "we$PWD"),
    ("we\\\\$PWD", "we\\/home"),
    ('"we\\$PWD"', "we$PWD"),
    ('"we\\\\$PWD"', "we\\/home"),
    ("\\${}", "${}"),
    ("\\${}aaa", "${}aaa"),
    ("we\\${}", "we${}"),
    ("we\\${}xx", "we${}xx"),
    ("${}", None),
    ("${}aaa", None),
    ("we${}", None),
    ("we${}xx", None),
    ("we${hi}", "we"),
    ("we${hi}xx", "wexx"),
    ("we${PWD}", "we/home"),
    ("we${.}", None),
    ("we${XXX:-000}xx", "we000xx"),
    ("we${PWD:-000}xx", "we/homexx"),
    ("we${XXX:-$PWD}xx", "we/homexx"),
    ("we${XXX:-${PWD:-yyy}}xx", "we/homexx"),
    ("we${XXX:-${YYY:-yyy}}xx", "weyyyxx"),
    ("we${XXX:YYY}", None),
    ("we${XXX?}", None),
    ("we${XXX:?}", None),
    ("we${PWD?}", "we/home"),
    ("we${PWD:?}", "we/home"),
    ("we${NULL?}", "we"),
    ("we${NULL:?}", None),
    ("we${XXX:+${PWD}}xx", "wexx"),
    ("we${PWD:+${XXX}}xx", "wexx"),
    ("we${PWD:+${SHELL}}xx", "webashxx"),
    ("we${XXX:+000}xx", "wexx"),
    ("we${PWD:+000}xx", "we000xx"),
    ("'we${XX}'", "we${XX}"),
    ('"we${PWD}"', "we/home"),
    ("\"we'$PWD'\"", "we'/home'"),
    ('"$PWD"', "/home"),
    ("'$PWD'", "$PWD"),
    ("'\\$PWD'", "\\$PWD"),
    ("'\"wello\"'", '"wello"'),
    ("we\\$PWD", "we$PWD"),
    ('"we\\$PWD"', "we$PWD"),
    ("'we\\$PWD'", "we\\$PWD"),
    ("we${PWD", None),
    ("we${PWD:=000}xx", None),
    ("we${PWD:+${PWD}:}xx", "we/home:xx"),
    ("we${XXX:-\\$PWD:}xx", "we$PWD:xx"),
    ("we${XXX:-\\${PWD}z}xx", "we${PWDz}xx"),
    ("안녕하세요", "안녕하세요"),
    ("안녕하세요\\", "안녕하세요"),
    ("안녕하세요\\\\", "안녕하세요\\"),
    ('"안녕하세요', None),
    ('"안녕하세요\\"', None),
    ("'안녕하세요", None),
    ("'안녕하세요\\'", "안녕하세요\\"),
    ("'안녕${XX}'", "안녕${XX}"),
    ("$KOREAN", "한국어"),
    ("안녕$KOREAN", "안녕한국어"),
    ("${{aaa}", None),
    ("${aaa}}", "}"),
    ("${aaa", None),
    ("${{aaa:-bbb}", None),
    ("${aaa:-bbb}}", "bbb}"),
    ("${aaa:-bbb", None),
    ("${aaa:-bbb}", "bbb"),
    ("${aaa:-${bbb:-ccc}}", "ccc"),
    ("${aaa:-bbb ${foo}", None),
    ("${aaa:-bbb {foo}", "bbb {foo"),
    ("${:}", None),
    ("${:-bbb}", None),
    ("${:+bbb}", None),
    ("$1", ""),
    ("${1}", ""),
    ("${1:+bbb}", ""),
    ("${1:-bbb}", "bbb"),
    ("$9", ""),
    ("${9}", ""),
    ("${9:+bbb}", ""),
    ("${9:-bbb}", "bbb"),
    ("$999", ""),
    ("${999}", ""),
    ("${999:+bbb}", ""),
    ("${999:-bbb}", "bbb"),
    ("$999aaa", "aaa"),
    ("${999}aaa", "aaa"),
    ("${999:+bbb}aaa", "aaa"),
    ("${999:-bbb}aaa", "bbbaaa"),
    ("$@", ""),
    ("${@}", ""),
    ("${@:+bbb}", ""),
    ("${@:-bbb}", "bbb"),
    ("$@@@", "@@"),
    ("$@aaa", "aaa"),
    ("${@}aaa", "aaa"),
    ("${@:+bbb}aaa", "aaa"),
    ("${@:-bbb}aaa", "bbbaaa"),
    ("$*", ""),
    ("$#", ""),
    ("${#}", ""),
    ("${#:+bbb}", ""),
    ("${#:-bbb}", "bbb"),
    ("$$", ""),
    ("$!", ""),
    ("$0", ""),
    ("${0}", ""),
    ("${0:+bbb}", ""),
    ("${0:-bbb}", "bbb"),
]

# (word, variables, what it becomes): those of buildkit `shell/lex_test.go`.
MODIFIERS: list[tuple[str, dict[str, str], str | None]] = [
    ("x", {"DUMMY": "dummy"}, "x"),
    ("x ${UNUSED}", {"DUMMY": "dummy"}, "x "),
    ("x ${FOO}", {"FOO": "y"}, "x y"),
    ("${FOO-aaa} ${BAR-bbb} ${BAZ-ccc}", {"FOO": "xxx", "BAR": ""}, "xxx  ccc"),
    ("${FOO:-aaa} ${BAR:-bbb} ${BAZ:-ccc}", {"FOO": "xxx", "BAR": ""}, "xxx bbb ccc"),
    ("${FOO:-}", {"FOO": "xxx"}, "xxx"),
    ("${FOO+aaa} ${BAR+bbb} ${BAZ+ccc}", {"FOO": "xxx", "BAR": ""}, "aaa bbb "),
    ("${FOO:+aaa} ${BAR:+bbb} ${BAZ:+ccc}", {"FOO": "xxx", "BAR": ""}, "aaa  "),
    ("${FOO?aaa}", {"FOO": "xxx", "BAR": ""}, "xxx"),
    ("${BAR?bbb}", {"FOO": "xxx", "BAR": ""}, ""),
    ("${BAZ?ccc}", {}, None),
    ("${FOO:?aaa}", {"FOO": "xxx", "BAR": ""}, "xxx"),
    ("${BAR:?bbb}", {}, None),
    ("${BAZ:?ccc}", {}, None),
    ("${BAZ:?}", {}, None),
    ("${FOO=aaa}", {}, None),
    ("${FOO=:aaa}", {}, None),
    ("${FOO=}", {}, None),
    ("${FOO#()[]{\\}^$.\\*\\?|\\\\}", {"FOO": "()[]{}^$.*?|\\x"}, "x"),
    ("${FOO%%\\**}", {"FOO": "xx**"}, "xx"),
    ("${FOO#*x*y}", {"FOO": "xxyy"}, "y"),
    ("${FOO#*}", {"FOO": "xxyy"}, "xxyy"),
    ("${FOO#$BAR}", {"FOO": "xxyy", "BAR": "x"}, "xyy"),
    ("${FOO#$BAR}", {"FOO": "xxyy", "BAR": ""}, "xxyy"),
    ("${FOO#}", {"FOO": "xxyy"}, "xxyy"),
    ("${FOO##*x}", {"FOO": "xxyy"}, "yy"),
    ("${FOO##}", {"FOO": "xxyy"}, "xxyy"),
    ("${FOO#?\\?}", {"FOO": "???y"}, "?y"),
    ("${ABC:-.}${FOO%x}${ABC:-.}", {"FOO": "xxyy"}, ".xxyy."),
    ("${FOO%%\\**\\*}", {"FOO": "a***yy*"}, "a"),
    ("${FOO%}", {"FOO": "xxyy"}, "xxyy"),
    ("${FOO%%$BAR}", {"FOO": "xxyy", "BAR": ""}, "xxyy"),
    ("${FOO:#}", {}, None),
    ("${FOO:##}", {}, None),
    ("${FOO:%}", {}, None),
    ("${FOO:%%}", {}, None),
    (
        "${FOO/$NEEDLE/.} - ${FOO//$NEEDLE/.}",
        {"FOO": "/foo*/*/*.txt", "NEEDLE": "\\*/"},
        "/foo.*/*.txt - /foo..*.txt",
    ),
    (
        "${FOO/$NEEDLE/} - ${FOO//$NEEDLE/}",
        {"FOO": "/tmp/tmp/bar.txt", "NEEDLE": "/tmp"},
        "/tmp/bar.txt - /bar.txt",
    ),
    (
        "${FOO/$NEEDLE/$REPLACEMENT} - ${FOO//$NEEDLE/$REPLACEMENT}",
        {"FOO": "/a/foo/b/c.txt", "NEEDLE": "/?/", "REPLACEMENT": "/"},
        "/foo/b/c.txt - /foo/c.txt",
    ),
    (
        "${FOO/$NEEDLE/$REPLACEMENT}",
        {"FOO": "http://google.de", "NEEDLE": "http://", "REPLACEMENT": "https://"},
        "https://google.de",
    ),
    ("${FOO//\\//\\/}", {"FOO": "/tmp/foo.txt"}, "\\/tmp\\/foo.txt"),
    ("${FOO/$BAR/ww}", {"FOO": "xxyy", "BAR": ""}, "wwxxyy"),
    ("${FOO//ww}", {"FOO": "xxyy"}, None),
    ("${FOO//}", {"FOO": "xxyy"}, None),
    ("${FOO///}", {"FOO": "xxyy"}, "xxyy"),
    ("${FOO///}", {}, ""),
]


@pytest.mark.parametrize(("word", "expected"), WORDS)
def test_word(word: str, expected: str | None) -> None:
    _check(word, VALUES, expected)


@pytest.mark.parametrize(("word", "values", "expected"), MODIFIERS)
def test_modifier(word: str, values: dict[str, str], expected: str | None) -> None:
    _check(word, values, expected)


def _check(word: str, values: dict[str, str], expected: str | None) -> None:
    words = Words("\\", values)
    if expected is not None:
        assert words.word(word, AT) == expected
        return
    with pytest.raises(ContainerfileError, match="f:7: "):
        words.word(word, AT)


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("hello${v}bye", "abc  def", ["helloabc", "defbye"]),
        ('hello"${v}"bye', "abc  def", ["helloabc  defbye"]),
        ("hello${v}def", "  ab c", ["hello", "ab", "cdef"]),
        ("hello${v}d", "ab c   ", ["helloab", "c", "d"]),
        ('hello" there  "', "", ["hello there  "]),
        ("hello\\ there", "", ["hello there"]),
        ('hello\\" there', "", ['hello"', "there"]),
        ("hello     there", "", ["hello", "there"]),
    ],
)
def test_a_variable_may_be_several_words(text: str, value: str, expected: list[str]) -> None:
    assert Words("\\", {"v": value}).words(text, AT) == expected


def expanded(text: str, escape: str = "\\", **values: str) -> Instruction:
    return Expander(escape, values, "/w").expand(parse("FROM x\n" + text).instructions[1])


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("ENV a=$v b='$v' $v=c", lambda at: Env(at, (
            Pair("a", "1 2"), Pair("b", "$v"), Pair("1 2", "c")))),
        ("LABEL a=$v \"b c\"=\"$v\"", lambda at: Label(at, (Pair("a", "1 2"), Pair("b c", "1 2")))),
        ("ARG a=$v b", lambda at: Arg(at, (Default("a", "1 2"), Default("b", None)))),
        ("WORKDIR /$v", lambda at: Workdir(at, "/1 2")),
        ("USER $v", lambda at: User(at, "1 2")),
        ("VOLUME $v /b", lambda at: Volume(at, ("1 2", "/b"))),
        ('VOLUME ["$v"]', lambda at: Volume(at, ("1 2",))),
        ("STOPSIGNAL $v", lambda at: Stopsignal(at, "1 2")),
        ("EXPOSE $v 3", lambda at: Expose(at, ("1", "2", "3"))),
        (
            "COPY --from=$v --exclude=$v --chown=$v --chmod=$v a$v $v/",
            lambda at: Copy(
                at, ("a1 2",), "1 2/", owner="1 2", mode="1 2", exclude=("$v",), stage="$v"
            ),
        ),
        ("ADD --checksum=$v $v b", lambda at: Add(at, ("1 2",), "b", checksum="1 2")),
    ],
)  # fmt: skip
def test_what_is_replaced(text: str, made: object) -> None:
    found = expanded(text, v="1 2")
    assert callable(made)
    assert found == made(found.at)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("RUN echo $v", Run),
        ('RUN ["$v"]', Run),
        ("CMD echo $v", Cmd),
        ("ENTRYPOINT $v", Entrypoint),
        ('SHELL ["$v"]', Shell),
        ("ONBUILD RUN $v", Onbuild),
        ("HEALTHCHECK CMD $v", Healthcheck),
        ("MAINTAINER $v", Maintainer),
    ],
)
def test_what_is_left_to_a_shell_or_a_later_build(text: str, kind: type) -> None:
    found = parse("FROM x\n" + text).instructions[1]
    assert isinstance(found, kind)
    assert expanded(text, v="1") == found


def test_mounts_of_a_run() -> None:
    found = expanded(
        "RUN --mount=type=cache,id=$v,target=c/$v --mount=type=secret,id=$v,uid=$n echo $v",
        v="x", n="5",
    )  # fmt: skip
    assert isinstance(found, Run)
    assert found.mounts == (
        CacheMount("/w/c/x", "x"),
        SecretMount("x", "/run/secrets/x", uid=5),
    )
    assert found.command.words == ("echo $v",)


def test_heredocs() -> None:
    text = "COPY <<A <<'B' /d/\n$v '$v' \\$v\nA\n$v\nB"
    found = expanded(text, v="x")
    assert isinstance(found, Copy)
    assert [one.content for one in found.documents] == ["x 'x' $v\n", "$v\n"]


def test_the_escape_of_the_file() -> None:
    text = "# escape=`\nFROM x\nENV a=`$v b=c:\\d"
    (found,) = parse(text).instructions[1:]
    done = Expander("`", {"v": "1"}).expand(found)
    assert isinstance(done, Env)
    assert done.pairs == (Pair("a", "$v"), Pair("b", "c:\\d"))


def test_from() -> None:
    (found,) = parse("FROM --platform=$p debian:${v:-12} AS s").instructions
    assert isinstance(found, From)
    done = Expander("\\", {"p": "linux/arm64"}).from_line(found)
    assert (done.image, done.platform, done.stage) == ("debian:12", "linux/arm64", "s")


def test_a_base_that_is_blank_is_refused() -> None:
    (found,) = parse("FROM $nothing").instructions
    assert isinstance(found, From)
    with pytest.raises(ContainerfileError, match=r"base name \(\$nothing\) should not be blank"):
        Expander("\\", {}).from_line(found)


TOKENS = st.lists(
    st.sampled_from(
        [
            *[
                "$",
                "{",
                "}",
                ":",
                "-",
                "+",
                "?",
                "#",
                "%",
                "/",
                "\\",
                "'",
                '"',
                "a",
                "b",
                "v",
                "*",
                "<",
                "`",
                "=",
                ".",
            ],
            " ",
            "${v",
            "\n",
        ]
    ),
    max_size=25,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(TOKENS | st.text(max_size=30), st.text(max_size=10))
def test_any_word_is_expanded_or_refused_with_its_place(text: str, value: str) -> None:
    try:
        Words("\\", {"v": value, "a": ""}).word(text, AT)
        Words("`", {"v": value}).words(text, AT)
    except ContainerfileError as error:
        assert str(error).startswith("f:7: ")  # noqa: PT017
