"""`pyunion system df`: each layer counted once."""

from __future__ import annotations

from layerstore import Image
from tests.helpers.cli import Cli


def test_an_empty_store(cli: Cli) -> None:
    assert cli.ok("system", "df") == (
        "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n"
        "Images          0         0         0B        0B\n"
        "Containers      0         0         0B        0B\n"
        "Local Volumes   0         0         0B        0B\n"
        "Build Cache     0         0         0B        0B\n"
        "Blobs           0         0         0B        0B\n"
    )


def test_shared_layers_count_once_and_used_ones_are_not_reclaimable(
    cli: Cli, child: Image, base: Image
) -> None:
    with cli.store() as store:
        box = store.containers.create(base, name="box")
        (box.upper / "x").write_bytes(b"x" * 50)
    lines = cli.ok("system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}")
    assert lines.splitlines()[:2] == ["Images 2 1 1.017kB", "Containers 1 0 50B"]
    reclaimable = cli.ok("system", "df", "--format", "{{.Reclaimable}}").splitlines()
    assert reclaimable[:2] == ["11B (1%)", "50B (100%)"]
    found = cli.json("system", "df")
    assert isinstance(found, list)
    assert found[0] == {
        "type": "Images",
        "total": 2,
        "active": 1,
        "size": 1017,
        "reclaimable": 11,
    }


def test_details(cli: Cli, child: Image, base: Image) -> None:
    with cli.store() as store:
        box = store.containers.create(base, name="box", image_name="busy:1", config={"Cmd": ["sh"]})
    text = cli.ok("system", "df", "-v")
    lines = [line.split() for line in text.splitlines()]
    assert "REPOSITORY   TAG       IMAGE ID" in text
    changed = next(line for line in lines if line[:1] == ["changed"])
    assert changed[-4:] == ["1.017kB", "1.006kB", "11B", "0"]
    busy = next(line for line in lines if line[:1] == ["busy"])
    assert busy[-4:] == ["1.006kB", "1.006kB", "0B", "1"]
    assert next(line for line in lines if line[:1] == [box.short])[1:4] == ["busy:1", '"sh"', "0B"]
