"""`pyunion volume`: docker's words for each outcome."""

from __future__ import annotations

import json

import pytest

from layerstore import Image
from tests.helpers.cli import Cli


def test_a_volume_is_made_listed_and_removed(cli: Cli) -> None:
    assert cli.ok("volume", "create", "data") == cli.ok("volume", "create", "data") == "data\n"
    assert cli.ok("volume", "ls") == "DRIVER    VOLUME NAME\nlocal     data\n"
    unnamed = cli.ok("volume", "create").strip()
    assert len(unnamed) == 64 and bytes.fromhex(unnamed)
    assert sorted(cli.ok("volume", "ls", "-q").split()) == sorted(["data", unnamed])
    assert cli.ok("volume", "rm", "data", unnamed) == f"data\n{unnamed}\n"
    assert cli.ok("volume", "ls", "-q") == ""


def test_what_is_wrong_with_a_new_volume(cli: Cli) -> None:
    assert cli.fails("volume", "create", "x") == (
        "Error: create x: volume name is too short, names should be at least two alphanumeric "
        "characters\n"
    )
    assert 'includes invalid characters for a local volume name, only "[a-zA-Z0-9]' in cli.fails(
        "volume", "create", "a b"
    )
    assert 'plugin "nfs" not found: there is only the driver local' in cli.fails(
        "volume", "create", "-d", "nfs", "data"
    )
    assert "invalid label '=x': empty name" in cli.fails(
        "volume", "create", "--label", "=x", "data", status=125
    )
    assert "pyunion has no --opt: " in cli.fails("volume", "create", "--opt", "x", status=125)
    assert "Conflicting options" in cli.fails("volume", "create", "--name", "a", "bb")
    assert cli.ok("volume", "create", "--name", "old") == "old\n"


def test_names_are_sorted_by_their_numbers(cli: Cli) -> None:
    for name in ("v10", "v9", "v1", "aa"):
        cli.ok("volume", "create", name)
    assert cli.ok("volume", "ls", "-q").split() == ["aa", "v1", "v9", "v10"]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (("-f", "dangling=true"), ["loose"]),
        (("-f", "dangling=0"), ["used"]),
        (("-f", "name=oo"), ["loose"]),
        (("-f", "name=^us"), ["used"]),
        (("-f", "label=a"), ["loose"]),
        (("-f", "label=a=b"), ["loose"]),
        (("-f", "label=a=c"), []),
        (("-f", "driver=local"), ["loose", "used"]),
        (("-f", "driver=nfs"), []),
    ],
)
def test_filters(cli: Cli, base: Image, flags: tuple[str, ...], names: list[str]) -> None:
    cli.ok("volume", "create", "--label", "a=b", "loose")
    cli.ok("create", "-v", "used:/d", "busy:1")
    assert cli.ok("volume", "ls", "-q", *flags).split() == names


def test_the_forms_of_a_listing(cli: Cli, base: Image) -> None:
    cli.ok("volume", "create", "--label", "b=2", "--label", "a=1", "data")
    box = cli.ok("create", "-v", "data:/d", "busy:1").strip()
    with cli.store() as store:
        (store.volumes.data("data") / "f").write_bytes(b"123")
        place = str(store.volumes.data("data"))
    template = "{{.Name}} {{.Driver}} {{.Scope}} {{.Mountpoint}} {{.Labels}} {{.Links}} {{.Size}}"
    assert cli.ok("volume", "ls", "--format", template) == (
        f"data local local {place} a=1,b=2 N/A N/A\n"
    )
    (row,) = json.loads(cli.ok("volume", "ls", "--json"))
    created = row.pop("created")
    assert created.endswith("Z")
    assert row == {
        "name": "data",
        "driver": "local",
        "scope": "local",
        "mountpoint": place,
        "labels": {"a": "1", "b": "2"},
        "containers": [box],
        "size": 3,
    }
    assert "Invalid filter 'x'" in cli.fails("volume", "ls", "-f", "x=y")


def test_inspect(cli: Cli, base: Image) -> None:
    cli.ok("volume", "create", "--label", "a=b", "data")
    (found,) = json.loads(cli.ok("volume", "inspect", "data"))
    assert list(found) == [
        "CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope",
    ]  # fmt: skip
    assert (found["Labels"], found["Options"]) == ({"a": "b"}, {})
    assert found["Mountpoint"] == str(cli.root / "volumes/data/_data")
    cli.ok("create", "-v", "made:/d", "busy:1")
    (found,) = json.loads(cli.ok("inspect", "--type", "volume", "made"))
    assert (found["Labels"], found["Options"]) == (None, None)
    assert cli.ok("inspect", "-f", "{{.Name}}", "data") == "data\n"
    assert cli("volume", "inspect", "nope") == (1, "[]\n", "Error: No such volume: nope\n")


def test_a_volume_in_use_stays(cli: Cli, base: Image) -> None:
    box = cli.ok("create", "--name", "box", "-v", "data:/d", "busy:1").strip()
    assert cli("volume", "rm", "data", "nope") == (
        1,
        "",
        f"Error: remove data: volume is in use - [{box}]\nError: No such volume: nope\n",
    )
    assert cli.ok("volume", "rm", "-f", "nope") == "nope\n"
    assert "volume is in use" in cli.fails("volume", "rm", "-f", "data")
    cli.ok("rm", "-v", "box")
    assert cli.ok("volume", "rm", "data") == "data\n"


def test_rm_with_v_removes_what_has_no_name(cli: Cli, base: Image) -> None:
    cli.ok("create", "--name", "box", "-v", "data:/d", "-v", "/unnamed", "busy:1")
    cli.ok("create", "--name", "other", "-v", "/unnamed", "busy:1")
    assert len(cli.ok("volume", "ls", "-q").split()) == 3
    cli.ok("rm", "-v", "box")
    assert len(cli.ok("volume", "ls", "-q").split()) == 2
    cli.ok("rm", "other")
    assert len(cli.ok("volume", "ls", "-q").split()) == 2


def test_prune(cli: Cli, base: Image) -> None:
    cli.ok("create", "--name", "box", "-v", "used:/d", "busy:1")
    cli.ok("volume", "create", "loose")
    said = cli.ok("volume", "prune", given="n\n")
    assert said.startswith(
        "WARNING! This will remove all local volumes not used by at least one container.\n"
        "Are you sure you want to continue? [y/N]"
    )
    dry = "Would delete Volumes:\nloose\n\nTotal reclaimable space: 0B\n"
    assert cli.ok("volume", "prune", "--dry-run") == dry
    done = "Deleted Volumes:\nloose\n\nTotal reclaimed space: 0B\n"
    assert cli.ok("volume", "prune", "-f") == done
    assert cli.ok("volume", "prune", "-f") == "Total reclaimed space: 0B\n"
    assert "Deleted Volumes:\nused\n" in cli.ok("system", "prune", "--volumes", "-f")
    assert "  - all volumes not used" in cli.ok("prune", "--volumes", given="n\n")


def test_containers_show_their_mounts(cli: Cli, base: Image) -> None:
    name = "a-volume-with-a-long-name"
    cli.ok("create", "--name", "box", "-v", f"{name}:/d", "-v", "/tmp:/t:ro", "busy:1")
    cli.ok("create", "--name", "other", "busy:1")
    line = cli.ok("ps", "-a", "-f", f"volume={name}", "--format", "{{.Mounts}} {{.LocalVolumes}}")
    assert line == "/tmp,a-volume-with-… 1\n"
    assert cli.ok("ps", "-aq", "-f", "volume=/t") == cli.ok("ps", "-aq", "-f", "name=box")
    (found,) = json.loads(cli.ok("inspect", "box"))
    assert found["HostConfig"]["Binds"] == ["/tmp:/t:ro", f"{name}:/d"]
    assert found["Mounts"] == [
        {
            "Type": "bind",
            "Source": "/tmp",
            "Destination": "/t",
            "Mode": "ro",
            "RW": False,
            "Propagation": "rprivate",
        },
        {
            "Type": "volume",
            "Name": name,
            "Source": str(cli.root / "volumes" / name / "_data"),
            "Destination": "/d",
            "Driver": "local",
            "Mode": "z",
            "RW": True,
            "Propagation": "",
        },
    ]


def test_disk_usage_counts_volumes(cli: Cli, base: Image) -> None:
    cli.ok("create", "-v", "used:/d", "busy:1")
    cli.ok("volume", "create", "loose")
    with cli.store() as store:
        (store.volumes.data("loose") / "f").write_bytes(b"x" * 500)
    row = next(row for row in json.loads(cli.ok("system", "df", "--json")) if "Vol" in row["type"])
    assert row == {"type": "Local Volumes", "total": 2, "active": 1, "size": 500,
                   "reclaimable": 500}  # fmt: skip
    table = cli.ok("system", "df", "-v")
    assert "Local Volumes space usage:\n\nVOLUME NAME   LINKS     SIZE\n" in table
    assert "loose         0         500B\n" in table
