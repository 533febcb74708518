"""`pyunion commit`, of a container that nobody uses; live ones are tests of commit itself."""

from __future__ import annotations

import pytest

from layerstore import Image
from layerstore.operations.commit import Committed
from mount_tools.cli.commands.commit_cmd import copied_text
from tests.helpers.cli import Cli


@pytest.fixture
def box(cli: Cli, base: Image) -> str:
    """A container that changed a file."""
    cli.ok("create", "--name", "box", "busy:1", "sh", "-c", "echo hi")
    with cli.store() as store:
        upper = store.containers.resolve("box").upper
        (upper / "new").write_bytes(b"hi\n")
    return "box"


def test_the_id_of_the_image_is_printed(cli: Cli, base: Image, box: str) -> None:
    printed = cli.ok(
        *("commit", "-a", "Me <me@x>", "-m", "a message", "-c", 'CMD ["ls"]', box, "new:1")
    )
    assert printed == cli.ok("images", "-q", "--no-trunc", "new:1")
    template = "{{.ID}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}"
    assert cli.ok("history", "new:1", "--format", template).splitlines() == [
        f"{printed.removeprefix('sha256:')[:12]}|sh -c echo hi|3B|a message",
        f"{base.id.short}||1.01kB|Imported from -",
    ]
    template = "{{.Author}}|{{.Config.Cmd}}|{{.Parent}}"
    assert cli.ok("inspect", "-f", template, "new:1") == f"Me <me@x>|[ls]|{base.id}\n"
    assert cli.ok("diff", box) == "A /new\n"


def test_an_image_keeps_nothing_that_was_the_containers_own(cli: Cli, box: str) -> None:
    cli.ok("create", "--name", "other", "-v", "/tmp:/x", "-h", "me", "-t", "busy:1")
    cli.ok("commit", "other", "new:1")
    with cli.store() as store:
        config = store.images.config(store.images.resolve("new:1")).config
    assert "HostConfig" not in config
    assert "Hostname" not in config


def test_without_a_name_it_dangles(cli: Cli, box: str) -> None:
    cli.ok("container", "commit", "-p=false", box)
    assert cli.ok("images", "--format", "{{.Repository}}", "-f", "dangling=true") == "<none>\n"


def test_refusals(cli: Cli, box: str) -> None:
    assert cli.fails("commit", "nope") == "Error: No such container: nope\n"
    assert "must be lowercase" in cli.fails("commit", box, "Bad:1")
    assert cli.fails("commit", "-c", "RUN x", box) == ("Error: run is not a valid change command\n")
    assert "requires at least 1 and at most 2 arguments" in cli.fails("commit")


def test_what_was_copied_is_told(base: Image) -> None:
    done = Committed(base, 1_500_000, (b"/a", b"/b", b"/c", b"/d"), 2_000)
    assert copied_text(done) == (
        "copied because they were open (2kB): /a, /b, /c, 1 more; "
        "the container was paused for 1.5 ms"
    )


@pytest.mark.parametrize("words", [["-m=text"], ["-qm=text"], ["-mtext"], ["-m", "text"]])
def test_the_message_in_each_form_of_a_short_flag(cli: Cli, box: str, words: list[str]) -> None:
    cli.ok("commit", *words, box, "made")
    assert cli.ok("history", "made", "--format", "{{.Comment}}").splitlines()[0] == "text"
