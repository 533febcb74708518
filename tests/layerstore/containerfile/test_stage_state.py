"""A stage's variables, programs and history; the history is what docker 20.10 wrote."""

from __future__ import annotations

from layerstore.containerfile.arguments import GlobalArguments
from layerstore.containerfile.instructions import Add, Copy, Run
from layerstore.containerfile.parse import parse
from layerstore.containerfile.stage_state import StageState
from layerstore.oci.json_values import Object

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def carried_out(
    text: str, base: Object | None = None, **given: str
) -> tuple[StageState, list[str]]:
    """Return the state after the one stage of `text`, and its history."""
    containerfile = parse("FROM x\n" + text)
    state = StageState(base or {}, GlobalArguments(given).stage(), containerfile.escape)
    history = []
    for one in containerfile.instructions[1:]:
        one = state.expand(one)
        created_by = state.apply(one)
        if isinstance(one, Run):
            created_by = state.run_history(one)
        elif isinstance(one, Copy | Add):
            created_by = state.copy_history(one)("file:0123")
        assert created_by is not None
        history.append(created_by)
    return state, history


def run_of(state: StageState, text: str) -> Run:
    (one,) = parse("FROM x\n" + text).instructions[1:]
    one = state.expand(one)
    assert isinstance(one, Run)
    return one


def test_history_and_configuration_are_dockers() -> None:
    state, history = carried_out(
        """\
ARG G
ARG H=2
ENV A=b C="d e" P=$G
LABEL x=y "z w"=q
COPY a.txt /x/
ADD --chown=1:2 d /w
WORKDIR /x/w
WORKDIR w2
EXPOSE 80 443/udp 8000-8002
VOLUME /v ["/v2"]
VOLUME ["/a b","/c"]
USER me:you
CMD echo "hi"
ENTRYPOINT ["a","b\\"c é"]
SHELL ["/bin/bash","-c"]
CMD x y
STOPSIGNAL 9
HEALTHCHECK --interval=5s --retries=3 CMD a b
HEALTHCHECK NONE
ONBUILD RUN  a b
MAINTAINER Me <x>
""",
        G="1",
    )
    assert history == [
        "/bin/sh -c #(nop)  ARG G",
        "/bin/sh -c #(nop)  ARG H=2",
        "/bin/sh -c #(nop)  ENV A=b C=d e P=1",
        "/bin/sh -c #(nop)  LABEL x=y z w=q",
        "/bin/sh -c #(nop) COPY file:0123 in /x/ ",
        "/bin/sh -c #(nop) ADD --chown=1:2file:0123 in /w ",
        "/bin/sh -c #(nop) WORKDIR /x/w",
        "/bin/sh -c #(nop) WORKDIR /x/w/w2",
        "/bin/sh -c #(nop)  EXPOSE 443/udp 80 8000-8002",
        "/bin/sh -c #(nop)  VOLUME [/v [/v2]]",
        "/bin/sh -c #(nop)  VOLUME [/a b /c]",
        "/bin/sh -c #(nop)  USER me:you",
        '/bin/sh -c #(nop)  CMD ["/bin/sh" "-c" "echo \\"hi\\""]',
        '/bin/sh -c #(nop)  ENTRYPOINT ["a" "b\\"c é"]',
        "/bin/bash -c #(nop)  SHELL [/bin/bash -c]",
        '/bin/bash -c #(nop)  CMD ["/bin/bash" "-c" "x y"]',
        "/bin/bash -c #(nop)  STOPSIGNAL 9",
        '/bin/bash -c #(nop)  HEALTHCHECK &{["CMD-SHELL" "a b"] "5s" "0s" "0s" \'\\x03\'}',
        '/bin/bash -c #(nop)  HEALTHCHECK &{["NONE"] "0s" "0s" "0s" \'\\x00\'}',
        "/bin/bash -c #(nop)  ONBUILD RUN  a b",
        "/bin/bash -c #(nop)  MAINTAINER Me <x>",
    ]
    assert state.author == "Me <x>"
    assert state.config == {
        "Env": [PATH, "A=b", "C=d e", "P=1"],
        "Labels": {"x": "y", "z w": "q"},
        "ExposedPorts": {
            name: {} for name in ("443/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp")
        },
        "Volumes": {name: {} for name in ("/v", "[/v2]", "/a b", "/c")},
        "WorkingDir": "/x/w/w2",
        "User": "me:you",
        "Cmd": ["/bin/bash", "-c", "x y"],
        "Entrypoint": ["a", 'b"c é'],
        "Shell": ["/bin/bash", "-c"],
        "StopSignal": "9",
        "Healthcheck": {"Test": ["NONE"], "Interval": 5_000_000_000, "Retries": 3},
        "OnBuild": ["RUN  a b"],
    }  # fmt: skip


def test_env_wins_over_arg() -> None:
    state, history = carried_out("ARG A=arg\nENV A=env\nENV B=$A\nRUN x", A="given")
    assert state.variables["B"] == "env"
    assert history[-1] == "/bin/sh -c x"


def test_a_line_of_env_sees_what_was_before_it() -> None:
    state, _ = carried_out("ENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc")
    assert {"abc=bye", "def=hello", "ghi=bye"} <= set(state.run_config.env)


def test_a_run_records_its_arguments() -> None:
    _, history = carried_out("ARG b=2\nARG a\nRUN x y", a="1 1")
    assert history[-1] == "|2 a=1 1 b=2 /bin/sh -c x y"


def test_a_run_with_a_proxy_records_that_there_is_one() -> None:
    state, history = carried_out("RUN x", HTTP_PROXY="http://user:secret@host")
    assert history == ["|0 /bin/sh -c x"]
    program = state.program(run_of(state, "RUN x"))
    assert "HTTP_PROXY=http://user:secret@host" in program.environment


def test_programs() -> None:
    state, _ = carried_out("ARG a=1\nENV b=2")
    assert state.program(run_of(state, "RUN x $b")).argv == ["/bin/sh", "-c", "x $b"]
    assert state.program(run_of(state, 'RUN ["x", "$b"]')).argv == ["x", "$b"]
    assert state.program(run_of(state, "RUN x")).environment == ["a=1", PATH, "b=2"]


def test_a_heredoc_is_a_script_a_program_or_the_shells() -> None:
    state, _ = carried_out("")
    script = state.program(run_of(state, "RUN <<-E\n\tx\n\ty\nE"))
    assert (script.argv, script.script) == (["/bin/sh", "-c", "x\ny\n"], None)
    program = state.program(run_of(state, "RUN <<E\n#!/usr/bin/python3\nx\nE"))
    assert program.argv == ["/dev/pipes/E"]
    assert program.script is not None
    assert program.script.content == "#!/usr/bin/python3\nx\n"
    shell = state.program(run_of(state, "RUN cat <<-A - <<B\n\t1\nA\n2\nB"))
    assert shell.argv == ["/bin/sh", "-c", "cat <<-A - <<B\n\t1\nA\n2\nB"]


def test_the_history_of_a_program_tells_its_content() -> None:
    state, _ = carried_out("")
    one, other = (run_of(state, f"RUN <<E\n#!/bin/{name}\nE") for name in ("a", "b"))
    assert state.run_history(one) != state.run_history(other)


def test_a_base_keeps_what_it_has_and_its_triggers_are_for_this_build() -> None:
    base: Object = {"Env": ["PATH=/b", "X=1"], "OnBuild": ["RUN t"], "User": "u", "Shell": ["/s"]}
    state, history = carried_out("ENV Y=$X\nWORKDIR a", base)
    assert state.triggers == ["RUN t"]
    assert state.config == {
        "Env": ["PATH=/b", "X=1", "Y=1"],
        "User": "u",
        "Shell": ["/s"],
        "WorkingDir": "/a",
    }
    assert history == ["/s #(nop)  ENV Y=1", "/s #(nop) WORKDIR /a"]
    assert base["OnBuild"] == ["RUN t"]


def test_labels_of_the_build() -> None:
    state, _ = carried_out("LABEL a=1")
    assert state.label("b", "2") == "/bin/sh -c #(nop)  LABEL b=2"
    assert state.label("a", "3 4") == "/bin/sh -c #(nop)  LABEL a=3 4"
    assert state.config["Labels"] == {"a": "3 4", "b": "2"}


def test_no_secret_is_in_the_history() -> None:
    _, history = carried_out("RUN --mount=type=secret,id=k,env=K x")
    assert history == ["/bin/sh -c x"]
