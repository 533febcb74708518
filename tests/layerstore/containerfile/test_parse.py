"""Parsing a Containerfile: docker's own cases, what is refused, and that nothing else is raised."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Default,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Pair,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from layerstore.containerfile.parse import parse, parse_single
from layerstore.errors import StoreError

SECOND = 1_000_000_000


def only(text: str) -> Instruction:
    """Return the instruction `text`, the second of a file."""
    found = parse("FROM x\n" + text).instructions
    assert len(found) == 2
    return found[1]


def at(instruction: Instruction) -> object:
    return instruction.at


def words(text: str) -> list[tuple[str, ...]]:
    return [one.command.words for one in parse(text).instructions if isinstance(one, Run | Cmd)]


def test_from() -> None:
    text = "ARG V=1\nFROM --platform=linux/arm64 debian:$V AS Base\nFROM base"
    found = parse(text, "f").instructions
    assert found == (
        Arg(found[0].at, (Default("V", "1"),)),
        From(found[1].at, "debian:$V", "base", "linux/arm64"),
        From(found[2].at, "base"),
    )
    assert [(one.at.file, one.at.line, one.at.text) for one in found] == [
        ("f", 1, "ARG V=1"),
        ("f", 2, "FROM --platform=linux/arm64 debian:$V AS Base"),
        ("f", 3, "FROM base"),
    ]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("RUN echo hi", lambda at: Run(at, Command(("echo hi",), True))),
        ('RUN ["a", "b c"]', lambda at: Run(at, Command(("a", "b c"), False))),
        # What docker's own files have that is no JSON: a shell reads it.
        ('RUN ["a"', lambda at: Run(at, Command(('["a"',), True))),
        ("RUN ['a']", lambda at: Run(at, Command(("['a']",), True))),
        ('CMD "[\\"echo\\"]"', lambda at: Cmd(at, Command(('"[\\"echo\\"]"',), True))),
        ("CMD []", lambda at: Cmd(at, Command((), False))),
        ('cmd [ "x" , "\\u00e9" ]', lambda at: Cmd(at, Command(("x", "é"), False))),
        ("ENTRYPOINT a b", lambda at: Entrypoint(at, Command(("a b",), True))),
        ("ENV a=b c=d\\ e f='g h'", lambda at: Env(at, (
            Pair("a", "b"), Pair("c", "d\\ e"), Pair("f", "'g h'")))),
        ("ENV name value with   spaces", lambda at: Env(
            at, (Pair("name", "value with   spaces"),))),
        ("ENV a=", lambda at: Env(at, (Pair("a", ""),))),
        ('LABEL "a b"="c"', lambda at: Label(at, (Pair('"a b"', '"c"'),))),
        ("ARG a b=1 c=", lambda at: Arg(
            at, (Default("a", None), Default("b", "1"), Default("c", "")))),
        ("EXPOSE 80 443/udp 8000-8002", lambda at: Expose(at, ("443/udp", "80", "8000-8002"))),
        ("VOLUME /a /b", lambda at: Volume(at, ("/a", "/b"))),
        ('VOLUME ["/a b"]', lambda at: Volume(at, ("/a b",))),
        ("WORKDIR /a b", lambda at: Workdir(at, "/a b")),
        ("USER me:$G", lambda at: User(at, "me:$G")),
        ("STOPSIGNAL SIGINT", lambda at: Stopsignal(at, "SIGINT")),
        ('SHELL ["/bin/bash", "-c"]', lambda at: Shell(at, ("/bin/bash", "-c"))),
        ("MAINTAINER A B <c>", lambda at: Maintainer(at, "A B <c>")),
        ("ONBUILD RUN  a \\\n  b", lambda at: Onbuild(at, "RUN  a   b")),
        ("HEALTHCHECK NONE", lambda at: Healthcheck(at, ("NONE",))),
        ("HEALTHCHECK CMD a b", lambda at: Healthcheck(at, ("CMD-SHELL", "a b"))),
        (
            'HEALTHCHECK --interval=5s --timeout=1m --start-period=0s --retries=3 CMD ["a","b"]',
            lambda at: Healthcheck(at, ("CMD", "a", "b"), 5 * SECOND, 60 * SECOND, retries=3),
        ),
        ("COPY a b c/", lambda at: Copy(at, ("a", "b"), "c/")),
        ('COPY ["a b", "c"]', lambda at: Copy(at, ("a b",), "c")),
        (
            "COPY --from=base --chown=1:2 --chmod=755 --link --parents=true --exclude=*.o"
            " --exclude=x a b",
            lambda at: Copy(
                at, ("a",), "b", (), "1:2", "755", True, ("*.o", "x"), "base", parents=True
            ),
        ),
        ("COPY -- --a b", lambda at: Copy(at, ("--a",), "b")),
        ("COPY --link=false a b", lambda at: Copy(at, ("a",), "b")),
        (
            "ADD --checksum=sha256:ab --unpack=false https://x/y z",
            lambda at: Add(at, ("https://x/y",), "z", checksum="sha256:ab", unpack=False),
        ),
        ("RUN --network=none x", lambda at: Run(at, Command(("x",), True), network="none")),
    ],
)  # fmt: skip
def test_instruction(text: str, made: object) -> None:
    found = only(text)
    assert callable(made)
    assert found == made(found.at)
    assert (found.at.line, found.at.file) == (2, "Containerfile")


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        ("RUN <<E\nE", [("E", "", True)]),
        ("RUN 3<<E\nE", [("E", "", True)]),
        ('RUN "<<E"', []),
        ("RUN <<E\n\ta\n\tb\nE", [("E", "\ta\n\tb\n", True)]),
        ("RUN <<-E\n\ta\n\t\tb\n\tE", [("E", "a\nb\n", True)]),
        ("RUN <<-'E'\n\t$a\nE", [("E", "$a\n", False)]),
        ("RUN <<E\n# kept\na # too\nE", [("E", "# kept\na # too\n", True)]),
        ("COPY <<A <<B /d\n1\nA\n2\nB", [("A", "1\n", True), ("B", "2\n", True)]),
        ("COPY <<X <<Y /d\nY\nX\nX\nY", [("X", "Y\n", True), ("Y", "X\n", True)]),
        ("RUN <<eo'f'\nx\neof", [("eof", "x\n", False)]),
        ("RUN <<eo\\'f\nx\neo'f", [("eo'f", "x\n", True)]),
        ("RUN <<'one two'\nx\none two", [("one two", "x\n", False)]),
        ("RUN <<  E\nE", [("E", "", True)]),
        ("ADD <<f.txt /d/\nx\\\ny\nf.txt", [("f.txt", "x\\\ny\n", True)]),
    ],
)
def test_heredocs(text: str, documents: list[tuple[str, str, bool]]) -> None:
    found = only(text)
    if isinstance(found, Run):
        made: tuple[Heredoc, ...] = found.heredocs
    else:
        assert isinstance(found, Copy | Add)
        made = found.documents
    assert [(one.name, one.content, one.expand) for one in made] == documents
    assert found.at.last == 1 + len(text.split("\n"))


def test_paths_and_heredocs_of_a_copy_are_told_apart() -> None:
    found = only("COPY a <<E b /d/\nx\nE")
    assert isinstance(found, Copy)
    assert found.sources == ("a", "b")
    assert [one.name for one in found.documents] == ["E"]
    assert found.destination == "/d/"


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("FROM x\nRUN a \\\n  b \\\n# comment\n  c", ["a   b   c"]),
        ("FROM x\nRUN a \\\n\n  b", ["a   b"]),
        ("FROM x\r\nRUN a \\\r\n  b\r\nRUN c\r\n", ["a   b", "c"]),
        ("\ufeffFROM x\nRUN a", ["a"]),
        ("# escape=`\nFROM x\nRUN a `\n b \\\nRUN c", ["a  b \\", "c"]),
        ("#escape = \\\nFROM x\nRUN a \\\n b", ["a  b"]),
        ("# why\n# escape=`\nFROM x\nRUN a \\\n b", ["a  b"]),
        ("FROM x\nRUN a \\", ["a"]),
        ("FROM x\nRUN a\\\\\nRUN b", ["a\\\\", "b"]),
        ("FROM x\n  RUN a # no comment", ["a # no comment"]),
    ],
)
def test_lines(text: str, commands: list[str]) -> None:
    assert [" ".join(command) for command in words(text)] == commands


def test_an_instruction_knows_its_first_and_last_line() -> None:
    found = parse("# c\n\nFROM x\nRUN a \\\n b\n\nRUN c").instructions
    assert [(one.at.line, one.at.last) for one in found] == [(3, 3), (4, 5), (7, 7)]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("FROM x\nFOO bar", 2, "unknown instruction: FOO"),
        ("FROM x\nfoo bar", 2, "unknown instruction: foo"),
        ("RUN x", 1, "no build stage in current context"),
        ("FROM", 1, "FROM requires either one or three arguments"),
        ("FROM a b", 1, "FROM requires either one or three arguments"),
        ("FROM a as 1x", 1, 'invalid name for build stage: "1x"'),
        ("FROM a as scratch", 1, "reserved"),
        ("FROM --platfrom=x a", 1, "unknown flag: --platfrom (did you mean --platform?)"),
        ("FROM x\nMAINTAINER", 2, "MAINTAINER requires exactly one argument"),
        ("FROM x\nWORKDIR", 2, "WORKDIR requires exactly one argument"),
        ("FROM x\nUSER", 2, "USER requires exactly one argument"),
        ("FROM x\nSTOPSIGNAL", 2, "STOPSIGNAL requires exactly one argument"),
        ("FROM x\nENV", 2, "ENV requires at least one argument"),
        ("FROM x\nLABEL", 2, "LABEL requires at least one argument"),
        ("FROM x\nARG", 2, "ARG requires at least one argument"),
        ("FROM x\nONBUILD", 2, "ONBUILD requires at least one argument"),
        ("FROM x\nHEALTHCHECK", 2, "HEALTHCHECK requires at least one argument"),
        ("FROM x\nEXPOSE", 2, "EXPOSE requires at least one argument"),
        ("FROM x\nVOLUME", 2, "VOLUME requires at least one argument"),
        ("FROM x\nRUN", 2, "RUN requires at least one argument"),
        ("FROM x\nRUN --network=none", 2, "RUN requires at least one argument"),
        ("FROM x\nENV PATH", 2, "ENV must have two arguments"),
        ("FROM x\nENV a=b c", 2, "can't find = in"),
        ("FROM x\nENV =b", 2, "ENV names can not be blank"),
        ("FROM x\nARG =b", 2, "ARG names can not be blank"),
        ("FROM x\nCOPY a", 2, "COPY requires at least two arguments"),
        ("FROM x\nADD a", 2, "ADD requires at least two arguments"),
        ("FROM x\nCOPY a <<E\nE", 2, "COPY cannot accept a heredoc as a destination"),
        ("FROM x\nRUN <<E\na", 2, "unterminated heredoc"),
        ("FROM x\nCOPY --chwon=1 a b", 2, "unknown flag: --chwon (did you mean --chown?)"),
        ("FROM x\nCOPY --chown=1 --chown=2 a b", 2, "duplicate flag specified: --chown"),
        ("FROM x\nCOPY --chown a b", 2, "missing a value on flag: --chown"),
        ("FROM x\nCOPY --link=yes a b", 2, "expecting boolean value for flag --link, not: yes"),
        ("FROM x\nADD --keep-git-dir a b", 2, "--keep-git-dir is not supported"),
        ("FROM x\nMAINTAINER --boo joe", 2, "unknown flag: --boo"),
        ("FROM x\nRUN --network=bridge a", 2, 'invalid network mode "bridge"'),
        ("FROM x\nRUN --security=insecure a", 2, "--security=insecure is not supported"),
        ("FROM x\nSHELL bash -c", 2, "SHELL requires the arguments to be in JSON form"),
        ("FROM x\nSHELL []", 2, "SHELL requires at least one argument"),
        ("FROM x\nCMD [1]", 2, "Only strings are supported"),
        ('FROM x\nCMD [ "a", [ "b" ] ]', 2, "Only strings are supported"),
        ("FROM x\nONBUILD ONBUILD RUN a", 2, "Chaining ONBUILD"),
        ("FROM x\nONBUILD FROM a", 2, "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM x\nONBUILD MAINTAINER a", 2, "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("FROM x\nONBUILD FOO a", 2, "unknown instruction: FOO"),
        ("FROM x\nONBUILD RUN <<E\na\nE", 3, "a heredoc in ONBUILD"),
        ("FROM x\nONBUILD RUN <<E", 2, "a heredoc in ONBUILD"),
        ("FROM x\nHEALTHCHECK NONE x", 2, "HEALTHCHECK NONE takes no arguments"),
        ("FROM x\nHEALTHCHECK FOO x", 2, 'Unknown type "FOO"'),
        ("FROM x\nHEALTHCHECK CMD", 2, "Missing command after HEALTHCHECK CMD"),
        ("FROM x\nHEALTHCHECK --interval=50ns CMD x", 2, "cannot be less than 1ms"),
        ("FROM x\nHEALTHCHECK --interval=x CMD x", 2, 'invalid duration "x"'),
        ("FROM x\nHEALTHCHECK --retries=-1 CMD x", 2, "--retries cannot be negative (-1)"),
        ("FROM x\nHEALTHCHECK --retries=a CMD x", 2, "invalid syntax"),
        ("FROM x\nVOLUME [\"\"]", 2, "VOLUME specified can not be an empty string"),
        ("# escape=x\nFROM x", 1, "invalid escape token"),
        ("# escape=`\n# escape=`\nFROM x", 2, "only one escape parser directive"),
        ("FROM x\nRUN a\0b", 2, "NUL"),
        ("FROM x\nRUN " + "a" * 70_000, 2, "longer than 65,535 characters"),
    ],
)  # fmt: skip
def test_what_is_refused_is_said_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(ContainerfileError) as caught:
        parse(text, "My file")
    assert caught.value.at is not None
    assert caught.value.at.line == line
    shown = text.split("\n")[line - 1]
    first, _, rest = str(caught.value).partition("\n")
    assert first.startswith(f"My file:{line}: ")
    assert reason in first
    if len(shown) < 100 and "\0" not in shown:
        assert rest == f"  {shown}"


@pytest.mark.parametrize("text", ["", "\n", "# only\n# comments"])
def test_a_file_without_instructions_is_refused(text: str) -> None:
    with pytest.raises(ContainerfileError, match="file with no instructions"):
        parse(text)


def test_a_file_of_args_alone_is_refused() -> None:
    with pytest.raises(ContainerfileError, match="there is no FROM"):
        parse("ARG a=1")


def test_bytes_that_are_not_utf8_are_refused_with_their_line() -> None:
    with pytest.raises(ContainerfileError, match=r"Containerfile:2: .* not valid UTF-8"):
        parse(b"FROM x\nRUN \xff")


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(ContainerfileError, match="larger than 16 MiB"):
        parse(b"#" * ((16 << 20) + 1))


def test_a_deep_array_is_refused() -> None:
    with pytest.raises(ContainerfileError, match="nested too deeply"):
        parse("FROM x\nCMD " + "[" * 50_000)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("# syntax=docker/dockerfile:1\nFROM x", "the syntax directive has no effect"),
        ("#syntax = a\nFROM x", "the syntax directive has no effect"),
        ("FROM x\nRUN a \\\n\n  b", "Empty continuation line"),
    ],
)
def test_warnings(text: str, warning: str) -> None:
    (found,) = parse(text).warnings
    assert warning in found.text


def test_a_comment_about_syntax_is_no_warning() -> None:
    assert parse("FROM x\n# syntax=a").warnings == ()


def test_a_trigger_is_one_instruction() -> None:
    assert parse_single("USER me", "trigger") == User(parse_single("USER me", "trigger").at, "me")
    with pytest.raises(ContainerfileError, match="single expression"):
        parse_single("USER me\nUSER you", "trigger")
    with pytest.raises(ContainerfileError, match="no instructions"):
        parse_single("# nothing", "trigger")


PIECES = st.lists(
    st.sampled_from(
        [
            *[
                "FROM",
                "RUN",
                "COPY",
                "ADD",
                "ENV",
                "ARG",
                "LABEL",
                "CMD",
                "ONBUILD",
                "HEALTHCHECK",
                "VOLUME",
                "EXPOSE",
                "SHELL",
            ],
            *[
                "USER",
                "#",
                "escape=",
                "syntax=",
                "`",
                "\\",
                "'",
                "[",
                "]",
                "{",
                "}",
                "$",
                "=",
                "<<",
                "<<-",
                "EOF",
                "--mount=",
                "--chown=",
                ",",
                ":",
                "-",
                "é",
            ],
            *["type=bind,", "target=/x", "a", "b"],
            *(" ", "\t", "\r", "\n", '"', "\ufeff", "FROM x\n", "\\\n"),
        ]
    ),
    max_size=40,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(PIECES | st.text(max_size=60))
def test_anything_is_parsed_or_refused_with_a_place(text: str) -> None:
    places = []
    try:
        places += [one.at for one in parse(text, "f").instructions]
    except ContainerfileError as error:
        places += [error.at] if error.at is not None else []
    for place in places:
        assert 1 <= place.line <= place.last <= text.count("\n") + 1


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        parse(b"FROM x\n" + data)
    except StoreError:
        pass
