"""`pyunion history`, line for line as docker 20.10."""

from __future__ import annotations

import pytest

from layerstore import Image
from tests.helpers.cli import Cli


@pytest.fixture(autouse=True)
def _a_day_of_2026(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_795_562_135_000_000_000)


def test_the_newest_step_first_and_long_ones_cut(cli: Cli, child: Image, base: Image) -> None:
    assert cli.ok("history", "changed:1") == (
        "IMAGE          CREATED       CREATED BY                                      SIZE      "
        "COMMENT\n"
        f"{child.id.short}   5 years ago   "
        "/bin/sh -c echo hi > /etc/new; rm /etc/motd;…   11B       a message\n"
        f"{base.id.short}   6 years ago   "
        "                                                1.01kB    Imported from -\n"
    )
    assert cli.ok("history", "-q", "--no-trunc", "changed:1") == f"{child.id}\n{base.id}\n"


def test_bare_numbers_and_times(cli: Cli, child: Image, base: Image) -> None:
    assert cli.ok("history", "-H=false", "changed:1") == (
        "IMAGE          CREATED AT             CREATED BY"
        "                                      SIZE      COMMENT\n"
        f"{child.id.short}   2021-02-03T04:05:06Z   "
        "/bin/sh -c echo hi > /etc/new; rm /etc/motd;…   11        a message\n"
        f"{base.id.short}   2020-02-03T04:05:06Z   "
        "                                                1006      Imported from -\n"
    )


@pytest.mark.usefixtures("child")
def test_a_step_whose_image_is_gone_is_missing(cli: Cli) -> None:
    cli.ok("rmi", "busy:1")
    with cli.store() as store:
        store.database.write("UPDATE images SET parent = NULL")
    lines = cli.ok("history", "changed:1", "--format", "{{.ID}} {{.Comment}}").splitlines()
    assert lines[1] == "<missing> Imported from -"


def test_json(cli: Cli, base: Image) -> None:
    assert cli.json("history", "busy:1") == [
        {
            "id": base.id,
            "tags": ["busy:1"],
            "created": "2020-02-03T04:05:06.5Z",
            "created_by": "",
            "size": 1006,
            "comment": "Imported from -",
        }
    ]


def test_refusals(cli: Cli) -> None:
    assert cli.fails("history", "nope") == "Error: No such image: nope:latest\n"
    assert cli.fails("history", "-f", "x", status=125) == (
        "unknown shorthand flag: 'f' in -f\nSee 'pyunion history --help'.\n"
    )
