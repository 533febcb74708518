"""The papers agree with the code wherever that can be compared."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore.containers import control_protocol
from layerstore.db.schema import STEPS
from layerstore.layer import index, tar_split
from unionfs.core.whiteout import AUFS_META, AUFS_OPAQUE, AUFS_PREFIX, FUSE_OVERLAYFS_PREFIX, Marks

TOP = Path(__file__).resolve().parent.parent
ON_DISK = (TOP / "docs/on-disk.md").read_text()
PAPERS = sorted([*TOP.glob("*.md"), *TOP.glob("docs/*.md")])

# A path of the tree in backquotes: `unionfs/core/lookup.py`, `layerstore/db/`.
_TREE_PATH = re.compile(r"`((?:unionfs|layerstore|mount_tools|tests|benchmarks|docs)/[\w./-]*)`")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")
# `lookup.lookup_child()`: a function, said to be in a module of that name.
_CALL = re.compile(r"`(\w+)\.(\w+)\(\)`")


@pytest.mark.parametrize("paper", PAPERS, ids=lambda p: str(p.relative_to(TOP)))
def test_paths_and_links_of_a_paper_lead_somewhere(paper: Path) -> None:
    text = paper.read_text()
    for name in _TREE_PATH.findall(text):
        assert (TOP / name).exists(), f"{paper.name} names {name}, which is not there"
    for link in _LINK.findall(text):
        assert (paper.parent / link).exists(), f"{paper.name} links to {link}, which is not there"


@pytest.mark.parametrize("paper", PAPERS, ids=lambda p: str(p.relative_to(TOP)))
def test_functions_that_a_paper_names_are_there(paper: Path) -> None:
    modules: dict[str, list[str]] = {}
    for package in ("unionfs", "layerstore", "mount_tools"):
        for module in (TOP / package).rglob("*.py"):
            modules.setdefault(module.stem, []).append(module.read_text())
    for module, function in _CALL.findall(paper.read_text()):
        if module in modules:
            assert any(
                re.search(rf"\b(?:def|class) {function}\b", source) for source in modules[module]
            ), f"{paper.name} names {module}.{function}(), which is not there"


def test_every_room_stands_on_a_floor() -> None:
    """Every name in the layers of the import contracts is on the page of the floors."""
    setup = configparser.ConfigParser()
    setup.read(TOP / "setup.cfg")
    floors = (TOP / "docs/architecture.md").read_text().split("## The walks")[0]
    for contract in ("unionfs", "layerstore", "mount_tools"):
        layers = setup[f"importlinter:contract:{contract}"]["layers"]
        for room in set(re.findall(r"\w+", layers)) - {"pyunion"}:  # the name of the whole, too
            assert re.search(rf"\b{room}\b", floors), f"{contract}.{room} is on no floor"


def test_every_mark_is_described() -> None:
    marks = Marks(userxattr=False)
    values = [getattr(marks, name) for name in Marks.__slots__ if not name.startswith("_")]
    for value in values:
        short = str(value).removeprefix("trusted.")
        if short not in ("overlay.", "overlay.overlay."):  # the prefix, and that of nested ones
            assert f"`{short}`" in ON_DISK
    for name in (AUFS_PREFIX, AUFS_META, AUFS_OPAQUE):
        assert name.decode() in ON_DISK
    assert f"`{FUSE_OVERLAYFS_PREFIX}opaque`" in ON_DISK


def test_every_table_is_described() -> None:
    tables = set(re.findall(r"CREATE TABLE (\w+)", "".join(STEPS)))
    tables = {table for table in tables if not table.startswith("new_")}
    described = set(re.findall(r"^\| `(\w+)` \|", ON_DISK.split("### store.db")[1], re.MULTILINE))
    assert tables <= described


def test_the_formats_are_of_the_versions_described() -> None:
    assert f'{{"pyunion-index": {index.VERSION}}}' in ON_DISK
    assert f"`{tar_split.MAGIC.decode().strip()}`" in ON_DISK


def test_every_command_of_the_control_socket_is_described() -> None:
    text = ON_DISK.split("## The control socket")[1]
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(control_protocol.REQUESTS)


def test_the_api_page_is_current() -> None:
    made = subprocess.run(
        [sys.executable, "-c", "import make_api, sys; sys.stdout.write(make_api.page())"],
        cwd=TOP / "docs",
        capture_output=True,
        text=True,
        check=True,
    )
    assert (TOP / "docs/api.md").read_text() == made.stdout, "run python docs/make_api.py"
