"""`pyunion layers`: the tree of what images share."""

from __future__ import annotations

from layerstore import Image
from tests.helpers.cli import Cli
from tests.helpers.images import add_image


def test_a_chain_is_a_column_and_a_fork_branches(cli: Cli, child: Image, base: Image) -> None:
    with cli.store() as store:
        from tests.mount_tools.cli.conftest import BASE

        other = add_image(store, BASE, {"other": b"1"}, names=["other:1"], parent=base.id)
        store.containers.create(other, name="box")
    assert base.top is not None
    assert child.top is not None
    assert other.top is not None
    first, second = sorted((child.top, other.top))
    rest = {
        child.top: f"{base.top.short}   11B       1           changed:1",
        other.top: f"{base.top.short}   1B        1           other:1",
    }
    lines = [line.rstrip() for line in cli.ok("layers").splitlines()]
    assert lines[:2] == [
        "LAYER             PARENT         SIZE      SHARED BY   IMAGES      CONTAINERS",
        f"{base.top.short}                     1.01kB    3           busy:1",
    ]
    assert lines[2].startswith(f"├─ {first.short}   {rest[first]}")
    assert lines[3].startswith(f"└─ {second.short}   {rest[second]}")
    assert lines[2 if first == other.top else 3].endswith("box")
    assert cli.ok("layers", "-q", "changed:1") == f"{base.top.short}\n{child.top.short}\n"


def test_json(cli: Cli, child: Image, base: Image) -> None:
    found = cli.json("layers", "changed:1")
    assert isinstance(found, list)
    assert found[1] == {
        "chain_id": child.top,
        "parent": base.top,
        "diff_id": found[1]["diff_id"] if isinstance(found[1], dict) else None,
        "size": 11,
        "path": str(cli.root / "layers" / str(child.top).removeprefix("sha256:")),
        "shared_by": 1,
        "images": ["changed:1"],
        "containers": [],
    }


def test_refusals(cli: Cli) -> None:
    assert cli.fails("layers", "nope") == "Error: No such image: nope:latest\n"


def test_a_deep_chain_stays_in_its_column_and_names_parents(cli: Cli) -> None:
    with cli.store() as store:
        add_image(store, *({f"f{n}": b"x"} for n in range(60)), names=["deep:1"])
    lines = cli.ok("layers").splitlines()
    assert len(lines) == 61
    assert all(line[:1] not in "├└│ " for line in lines)
    ids = [line.split()[0] for line in lines[1:]]
    assert [line.split()[1] for line in lines[2:]] == ids[:-1]
