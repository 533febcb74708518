"""What the instructions see of each other, and secrets that nobody else sees."""

from __future__ import annotations

import os
from pathlib import Path

from tests.helpers.builds import Builds, cached


def test_arguments_heredocs_and_the_exec_form(builds: Builds) -> None:
    builds.ok(
        """ARG BASE=busy
FROM ${BASE}:1
ARG NAME=default
ENV FULL=${NAME:-x}-y
RUN echo $NAME $FULL > /a
RUN ["/bin/sh", "-c", "echo exec $NAME >> /a"]
RUN <<EOF
echo one >> /a
echo two >> /a
EOF
RUN <<EOF cat >> /a
plain $NAME
EOF
RUN <<EOF
#!/bin/cat
by its own program
EOF
COPY <<EOF /b
copied $NAME
EOF
""",
        "--build-arg",
        "NAME=given",
    )
    assert builds.content("/a").splitlines() == [
        "given given-y", "exec given", "one", "two", "plain given",
    ]  # fmt: skip
    assert builds.content("/b") == "copied given"


def test_the_value_of_an_argument_is_not_taken_for_another_argument(builds: Builds) -> None:
    def build(other: str, one: str, two: str) -> str:
        text = f'FROM busy:1\nARG X\nARG {other}\nRUN echo "$X;$Y;$Z" > /a\n'
        builds.ok(text, "--build-arg", f"X={one}", "--build-arg", f"{other}={two}")
        return builds.content("/a")

    assert build("Y", "1", "2") == "1;2;"  # so that each line of the last build is known
    # The history of both has |2 X=x Y=y Z=z.
    assert build("Z", "x Y=y", "z") == "x Y=y;;z"
    assert build("Y", "x", "y Z=z") == "x;y Z=z;"


def test_a_secret_is_nowhere(builds: Builds, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush-hush")
    text = (
        'FROM busy:1\nRUN --mount=type=secret,id=key test $(cat /run/secrets/key) = hush-"hush"\n'
        'RUN --mount=type=secret,id=key,env=KEY test $KEY = hush-"hush"\n'
        "RUN --mount=type=secret,id=key,target=/k,mode=0444 ls /k > /listed\n"
    )
    builds.ok(text, "--secret", f"id=key,src={secret}")
    for folder, _, files in os.walk(builds.containers.store):
        for name in files:
            path = Path(folder, name)
            if path.is_file():
                assert b"hush-hush" not in path.read_bytes(), path
    assert os.listdir(builds.layers()[0]) == ["listed"]
    # Its value is no part of the key.
    secret.write_text("other")
    assert cached(builds.ok(text, "--secret", f"id=key,src={secret}")) == 3
    required = "FROM busy:1\nRUN --mount=type=secret,id=key,required=true true\n"
    assert "secret key: not found" in builds.fails(required)


def test_a_cache_mount_outlives_the_build(builds: Builds) -> None:
    text = "FROM busy:1\nRUN --mount=type=cache,target=/c echo {} >> /c/log; cat /c/log > /seen\n"
    builds.ok(text.format("one"))
    builds.ok(text.format("two"))
    assert builds.content("/seen") == "one\ntwo"
    assert builds.sh("echo /c*") == "/c*"


def test_a_bind_shows_what_is_not_ignored(builds: Builds) -> None:
    builds.write(
        "FROM busy:1\nRUN --mount=target=/ctx echo /ctx/f* > /seen\n",
        f1="1",
        f2="2",
        **{".dockerignore": "f2\n"},
    )
    builds.ok()
    assert builds.content("/seen") == "/ctx/f1"
    builds.write("FROM busy:1\nRUN --mount=target=/ctx,rw echo new > /ctx/f3; cat /ctx/f3 > /x\n")
    builds.ok()
    assert sorted(os.listdir(builds.context)) == [".dockerignore", "Containerfile", "f1", "f2"]


def test_the_history_of_a_copy_has_the_shell_of_its_line(builds: Builds) -> None:
    """Below a line that is not cached, its files are read after the last line has been."""
    stage = "FROM busy:1 AS a\nRUN echo 1 > /x\n"
    builds.ok(stage + 'FROM busy:1\nENV A=1\nCOPY --from=a /x /y\nSHELL ["/bin/ash"]\n')
    history = [entry.get("created_by", "") for entry in builds.config()["history"]]
    assert [words.partition(" ")[0] for words in history[-2:]] == ["/bin/sh", "/bin/ash"]
