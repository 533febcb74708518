"""`pyunion ps`, line for line as docker 20.10."""

from __future__ import annotations

import os

import pytest

from layerstore import Container, Image
from mount_tools.cli.commands.ps_cmd import shows_size
from tests.helpers.cli import Cli

HEADING = "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
NOW_NS = 1_795_562_135_000_000_000
HOUR_NS = 3600 * 1_000_000_000


@pytest.fixture
def boxes(cli: Cli, base: Image, monkeypatch: pytest.MonkeyPatch) -> dict[str, Container]:
    """Three containers: one created, one running, one that ended."""
    monkeypatch.setattr("time.time_ns", lambda: NOW_NS)
    with cli.store() as store:
        made = {}
        for number, name in enumerate(("made", "runs", "ended")):
            box = store.containers.create(
                base,
                name=name,
                image_name="busy:1",
                config={
                    "Cmd": ["/bin/sh", "-c", "echo hi > /etc/new"],
                    "Labels": {"n": str(number)},
                },
            )
            made[name] = store.containers.update(box, created_ns=NOW_NS - (3 - number) * HOUR_NS)
        made["runs"] = store.containers.started(made["runs"], os.getpid())
        made["ended"] = store.containers.finished(made["ended"], 3)
        (made["made"].upper / "new").write_bytes(b"hi\n")
    return made


def test_an_empty_store_has_the_heading_alone(cli: Cli) -> None:
    assert cli.ok("ps") == HEADING
    assert cli.ok("container", "ls", "-a") == HEADING


def test_running_ones_and_all_of_them(cli: Cli, boxes: dict[str, Container]) -> None:
    heading = (
        "CONTAINER ID   IMAGE     COMMAND                  CREATED       STATUS"
        "                              PORTS     NAMES\n"
    )
    line = '{}   busy:1    "/bin/sh -c \'echo hi…"   {}   {:<35} {:9} {}\n'
    ended, runs, made = (boxes[name].short for name in ("ended", "runs", "made"))
    assert cli.ok("ps", "-a") == (
        heading.replace("CREATED       ", "CREATED             ")
        + line.format(ended, "About an hour ago", "Exited (3) Less than a second ago", "", "ended")
        + line.format(runs, "2 hours ago      ", "Up Less than a second", "", "runs")
        + line.format(made, "3 hours ago      ", "Created", "", "made")
    )
    assert cli.ok("ps", "-q") == f"{runs}\n"
    assert cli.ok("ps", "-q", "--no-trunc", "-l") == f"{boxes['ended'].id}\n"
    assert cli.ok("ps", "-qn", "2") == f"{ended}\n{runs}\n"


def test_what_a_container_changed_and_what_it_is_in_all(
    cli: Cli, boxes: dict[str, Container]
) -> None:
    lines = cli.ok("ps", "-as").splitlines()
    assert lines[0].endswith("NAMES     SIZE")
    assert lines[3].endswith("made      3B (virtual 1.01kB)")


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        (("name=e",), "ended made"),
        (("name=^/made$",), "made"),
        (("status=created",), "made"),
        (("status=created", "status=exited"), "ended made"),
        (("exited=3",), "ended"),
        (("exited=0",), ""),
        (("label=n=1",), "runs"),
        (("label=n",), "ended runs made"),
        (("ancestor=busy:1",), "ended runs made"),
        (("ancestor=nope",), ""),
        (("before=runs",), "made"),
        (("since=runs",), "ended"),
    ],
)
@pytest.mark.usefixtures("boxes")
def test_filters(cli: Cli, filters: tuple[str, ...], shown: str) -> None:
    words = [word for text in filters for word in ("-f", text)]
    assert cli.ok("ps", "-a", "--format", "{{.Names}}", *words).split() == shown.split()


@pytest.mark.usefixtures("boxes")
def test_a_tag_that_moved_leaves_the_id(cli: Cli, child: Image, base: Image) -> None:
    cli.ok("tag", "changed:1", "busy:1")
    assert cli.ok("ps", "--format", "{{.Image}}") == f"{base.id.short}\n"
    assert cli.ok("ps", "--no-trunc", "--format", "{{.Image}}") == f"{base.id}\n"


@pytest.mark.parametrize(
    ("words", "complaint", "status"),
    [
        (("-f", "status=foo"), "Error: Invalid filter 'status=foo'\n", 1),
        (("-f", "foo=bar"), "Error: Invalid filter 'foo'\n", 1),
        (("-f", "before=nope"), "Error: No such container: nope\n", 1),
        (
            ("-n", "x"),
            'invalid argument "x" for "-n, --last" flag: strconv.ParseInt: parsing "x": '
            "invalid syntax\nSee 'pyunion ps --help'.\n",
            125,
        ),
        (
            ("a",),
            "\"pyunion ps\" accepts no arguments.\nSee 'pyunion ps --help'.\n\n"
            "Usage:  pyunion ps [OPTIONS]\n\nList containers\n",
            1,
        ),
    ],
)
def test_refusals(cli: Cli, words: tuple[str, ...], complaint: str, status: int) -> None:
    assert cli.fails("ps", *words, status=status) == complaint


@pytest.mark.usefixtures("boxes")
def test_a_mounted_container_says_so(cli: Cli) -> None:
    with cli.store() as store:
        store.containers.update(store.containers.resolve("runs"), mount_point="/mnt")
    assert cli.ok("ps", "--format", "{{.Status}}") == "Up Less than a second (Mounted)\n"


def test_json(cli: Cli, boxes: dict[str, Container], base: Image) -> None:
    (found,) = list_of(cli.json("ps", "-s"))
    assert found == {
        "id": boxes["runs"].id,
        "name": "runs",
        "image": "busy:1",
        "image_id": base.id,
        "command": ["/bin/sh", "-c", "echo hi > /etc/new"],
        "status": "running",
        "exit_code": None,
        "pid": os.getpid(),
        "created": "2026-11-24T21:15:35Z",
        "started": "2026-11-24T23:15:35Z",
        "finished": None,
        "mount_point": None,
        "labels": {"n": "1"},
        "ports": [],
        "size": 0,
        "virtual_size": 1006,
    }


def list_of(found: object) -> list[object]:
    assert isinstance(found, list)
    return found


def test_published_ports_are_those_of_the_host_while_it_runs(cli: Cli, base: Image) -> None:
    words = ("-p", "8080:8080", "-p", "53-54:53-54/udp")
    cli.ok("create", "--name", "box", *words, base.id.encoded, "sh")
    shown = (
        "0.0.0.0:53-54->53-54/udp, :::53-54->53-54/udp, 0.0.0.0:8080->8080/tcp, :::8080->8080/tcp"
    )
    document = "{{json .NetworkSettings.Ports}} {{json .HostConfig.PortBindings}}"
    assert cli.ok("ps", "-a", "--format", "[{{.Ports}}]") == "[]\n"
    assert cli.ok("inspect", "-f", document, "box").startswith("{} {")
    with cli.store() as store:
        store.containers.started(store.containers.resolve("box"), os.getpid())
    assert cli.ok("ps", "--format", "{{.Ports}}") == f"{shown}\n"
    assert '"0.0.0.0:8080->8080/tcp, :::8080->8080/tcp"' in cli.ok("ps", "--json")
    for wanted in ("8080", "8000-9000/tcp", "54/udp"):
        assert cli.ok("ps", "-f", f"publish={wanted}", "--format", "{{.Names}}") == "box\n"
    assert cli.ok("ps", "-q", "-f", "publish=8080/udp") == ""
    assert "Invalid filter 'publish=x'" in cli.fails("ps", "-f", "publish=x")
    now, given = cli.ok("inspect", "-f", document, "box").split()
    assert '"8080/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::",' in now
    assert '"8080/tcp":[{"HostIp":"","HostPort":"8080"}]' in given


def test_containers_of_a_network(cli: Cli, base: Image) -> None:
    cli.ok("create", "--name", "alone", "--network", "none", base.id.encoded, "sh")
    cli.ok("create", "--name", "shared", base.id.encoded, "sh")
    names = ("ps", "-a", "--format", "{{.Names}}", "-f")
    assert cli.ok("ps", "-a", "--format", "json").count('"Size":"0B (virtual 1.01kB)"') == 2
    assert cli.ok(*names, "network=none") == "alone\n"
    assert cli.ok(*names, "network=host") == "shared\n"


@pytest.mark.parametrize(
    ("template", "sized"),
    [
        ("json", True),
        ("{{json .}}", True),
        ("{{.}}", True),
        ("{{- . -}}", True),
        ("{{.Size}}", True),
        ("{{ . | json }}", True),
        ("{{json .ID}}", False),
        ("{{.ID}} {{json .Names}}", False),
        ("table {{.Names}}", False),
        (None, False),
    ],
)
def test_which_templates_need_the_size(template: str | None, sized: bool) -> None:
    """As docker, which computes it only where it is shown: it takes a walk over the files."""
    assert shows_size(template) is sized
