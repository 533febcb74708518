"""`pyunion create`."""

from __future__ import annotations

import re

from layerstore import Image
from tests.helpers.cli import Cli


def test_the_id_is_printed_and_the_container_is_there(cli: Cli, base: Image) -> None:
    printed = cli.ok("create", "--name", "box", "-e", "X=1", "busy:1", "ls", "--all", "-l")
    assert re.fullmatch(r"[0-9a-f]{64}\n", printed)
    assert cli.ok("ps", "-a", "--format", "{{.Names}} {{.Image}} {{.Command}} {{.Status}}") == (
        'box busy:1 "ls --all -l" Created\n'
    )
    template = "{{.Id}} {{.Config.Env}} {{.Path}} {{.Image}}"
    assert cli.ok("inspect", "-f", template, "box") == f"{printed.strip()} [A=b X=1] ls {base.id}\n"
    assert cli.ok("container", "create", base.id.short).strip() != printed.strip()


def test_an_empty_name_is_none(cli: Cli, base: Image) -> None:
    """As a script gives it whose variable is empty."""
    cli.ok("create", "--name", "", base.id.encoded, "sh")
    assert cli.ok("ps", "-a", "--format", "{{.Names}}").strip()


def test_refusals(cli: Cli, base: Image) -> None:
    first = cli.ok("create", "--name", "box", "busy:1").strip()
    assert cli.fails("create", "--name", "box", "busy:1") == (
        f'Error: Conflict. The container name "/box" is already in use by container "{first}". '
        "You have to remove (or rename) that container to be able to reuse that name.\n"
    )
    assert cli.fails("create", "--name", "a b", "busy:1") == (
        "Error: Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed\n"
    )
    assert cli.fails("create", "--name", "a", "busy:1") == (
        "Error: Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, and at "
        "least two characters are needed\n"
    )
    assert cli.fails("create", "--pull", "never", "nope") == "Error: No such image: nope:latest\n"
    assert "requires at least 1 argument" in cli.fails("create")
    assert cli.fails("create", "--nope", "busy:1", status=125).startswith("unknown flag: --nope\n")
    for flags, said in (
        (["-v", "/no/such/place:/x"], "/no/such/place does not exist: create it"),
        (["--mount", "type=bind,src=/no/such/place,dst=/x"], "/no/such/place does not exist"),
        (["-h", "a b"], "invalid hostname 'a b'"),
    ):
        assert said in cli.fails("create", *flags, "busy:1")
    assert cli.ok("ps", "-aq", "--no-trunc").split() == [first]
    assert "network nope not found" in cli.fails("create", "--network", "nope", "busy:1")
    cli.ok("create", "--network=host", "--init", "busy:1")
