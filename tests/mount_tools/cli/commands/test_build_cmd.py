"""The command `build`: its flags, its output and its exit status."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.helpers.builds import Builds
from tests.helpers.cli import Cli
from tests.helpers.mounts import DEADLINE, helper_environment


def test_quiet_prints_the_id_only(builds: Builds) -> None:
    builds.write("FROM busy:1\nRUN echo noise; echo more > /f\n")
    done = builds.run("-q", "--iidfile", str(builds.context.parent / "iid"))
    assert done.returncode == 0 and done.stderr == "", done
    assert done.stdout.startswith("sha256:") and len(done.stdout) == 72
    assert (builds.context.parent / "iid").read_text() == done.stdout.strip()
    builds.write("FROM busy:1\nRUN echo why; exit 4\n")
    done = builds.run("-q")
    assert done.returncode == 4 and done.stdout == ""
    assert "why\n" in done.stderr


def test_several_names(builds: Builds) -> None:
    lines = builds.ok("FROM busy:1\nLABEL x=y\n", "-t", "localhost/second:2")
    assert lines[-2:] == [
        "Successfully tagged made:latest",
        "Successfully tagged localhost/second:2",
    ]
    assert builds.config("localhost/second:2") == builds.config()


@pytest.mark.parametrize("words", [["-"], ["-f", "-"]])
def test_a_containerfile_on_stdin(builds: Builds, words: list[str]) -> None:
    context = [] if words == ["-"] else [str(builds.context)]
    done = subprocess.run(
        builds.containers.command("build", *words, *context, "-t", "made"),
        input="FROM busy:1\nRUN echo x > /x\n",
        capture_output=True,
        text=True,
        env=helper_environment(),
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done
    assert builds.content("/x") == "x"


def test_wrong_words(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "store")
    assert "invalid progress" in cli.fails("build", "--progress", "odd", ".", status=125)
    assert "can't use stdin" in cli.fails("build", "-f", "-", "-")
    # docker's client refuses these as usage errors, and the others when it builds.
    for flag, value, said in (
        ("-t", "A", "must be lowercase"),
        ("--label", "=x", 'for "--label" flag'),
        ("--build-arg", "=x", 'for "--build-arg" flag'),
        ("--add-host", "x", "bad format for add-host"),
        ("--rm", "maybe", "invalid"),
    ):
        assert said in cli.fails("build", f"{flag}={value}", ".", status=125)
    assert "network bridge not found" in cli.fails("build", "--network", "bridge", ".")
    assert "platform" in cli.fails("build", "--platform", "a/b/c/d", ".")
    assert "not found" in cli.fails("build", "--build-arg", "a=b", str(tmp_path / "nowhere"))
    assert "no Containerfile" in cli.fails("build", str(tmp_path))
    assert "is a URL" in cli.fails("build", "https://example.org/x.git")
