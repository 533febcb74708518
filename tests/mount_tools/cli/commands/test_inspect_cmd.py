"""`pyunion inspect`: which objects, in which form, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layerstore import Image
from tests.helpers.cli import Cli


def test_one_array_for_all_that_was_found(cli: Cli, child: Image, base: Image) -> None:
    found = json.loads(cli.ok("inspect", "busy:1", child.id.short))
    assert [one["Id"] for one in found] == [base.id, child.id]
    assert cli.ok("inspect", "busy:1").startswith('[\n    {\n        "Id": "sha256:')


def test_what_is_missing_is_said_after_what_was_found(cli: Cli, base: Image) -> None:
    assert cli("inspect", "nope") == (1, "[]\n", "Error: No such object: nope\n")
    assert cli("inspect", "A") == (1, "[]\n", "Error: No such object: A\n")
    assert cli("image", "inspect", "nope") == (1, "[]\n", "Error: No such image: nope\n")
    assert cli("container", "inspect", "nope") == (1, "[]\n", "Error: No such container: nope\n")
    assert cli("inspect", "nope", "busy:1", "--format", "{{.Id}}") == (
        1,
        f"{base.id}\n",
        "Error: No such object: nope\n",
    )


def test_a_type_narrows_it_down(cli: Cli, base: Image) -> None:
    with cli.store() as store:
        box = store.containers.create(base, name="busy")
    cli.ok("tag", "busy:1", "busy:latest")
    assert cli.ok("inspect", "-f", "{{.Id}}", "busy") == f"{box.id}\n"
    assert cli.ok("inspect", "--type", "image", "-f", "{{.Id}}", "busy") == f"{base.id}\n"
    assert cli.fails("inspect", "--type", "container", "busy:1") == (
        "Error: No such container: busy:1\n"
    )
    assert cli.fails("inspect", "--type", "foo", "x") == ('"foo" is not a valid value for --type\n')


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("{{json .Config.Env}}", '["A=b"]'),
        ("{{.Config.Env}}", "[A=b]"),
        ('{{index .Config.Labels "of"}}', "base"),
        ("{{range .RootFS.Layers}}x{{end}}", "x"),
        ("{{.Size}} {{.Os}}/{{.Architecture}}", "1006 linux/amd64"),
        ("{{.RepoTags}}", "[busy:1]"),
        ("{{.Variant}}|{{.OsVersion}}", "|"),
    ],
)
@pytest.mark.usefixtures("base")
def test_templates(cli: Cli, template: str, result: str) -> None:
    assert cli.ok("inspect", "-f", template, "busy:1") == f"{result}\n"


@pytest.mark.usefixtures("base")
def test_templates_that_cannot_be(cli: Cli) -> None:
    assert cli.fails("inspect", "-f", "{{.Id", "busy:1", status=64) == (
        "template parsing error: template: :1: unclosed action\n"
    )
    # docker's empty line on stdout, which a script's $(...) does not see.
    assert cli("inspect", "-f", "{{.Nope}}", "busy:1").out == "\n"
    assert cli.fails("inspect", "-f", "{{.Nope}}", "busy:1") == (
        'template parsing error: template: :1:2: executing "" at <.Nope>: '
        'map has no entry for key "Nope"\n'
    )


def test_the_beginning_of_several_ids_is_no_name(cli: Cli, child: Image, base: Image) -> None:
    with cli.store() as store:
        for number in range(40):
            store.containers.create(base, name=f"c{number}")
    ambiguous = next(digit for digit in "0123456789abcdef" if _several(cli, digit))
    assert "multiple IDs found with provided prefix" in cli.fails("inspect", ambiguous)


def _several(cli: Cli, digit: str) -> bool:
    with cli.store() as store:
        return sum(one.id.startswith(digit) for one in store.containers.list()) > 1


def test_what_of_the_host_a_container_sees_is_where_docker_has_it(
    cli: Cli, base: Image, tmp_path: Path
) -> None:
    cli.ok("create", "--name", "box", "--read-only", "-v", f"{tmp_path}:/srv:ro", "busy:1", "sh")
    template = "{{.HostConfig.Binds}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.AutoRemove}}"
    assert cli.ok("inspect", "-f", template, "box") == f"[{tmp_path}:/srv:ro] true false\n"
    mounts = "{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}}{{end}}"
    assert cli.ok("inspect", "-f", mounts, "box") == f"bind {tmp_path} /srv false\n"
    assert "HostConfig" not in cli.ok("inspect", "-f", "{{json .Config}}", "box")


def test_what_was_not_given_of_a_container_is_there_as_dockers_nothing(
    cli: Cli, base: Image
) -> None:
    """A script that asks whether a container is privileged is no error for one that is not."""
    whole = cli.ok("create", "--name", "box", "busy:1", "sh").strip()
    cli.ok("create", "--name", "more", "--privileged", "-h", "h", "-m", "7m", "busy:1", "sh")
    template = "{{with .HostConfig}}{{.Privileged}} {{.Memory}} {{.CapAdd}} {{len .Binds}}{{end}}"
    assert cli.ok("inspect", "-f", template, "box") == "false 0 [] 0\n"
    assert cli.ok("inspect", "-f", template, "more") == "true 7340032 [] 0\n"
    names = cli.ok("inspect", "-f", "{{.Config.Hostname}}", "box", "more")
    assert names == f"{whole[:12]}\nh\n"
