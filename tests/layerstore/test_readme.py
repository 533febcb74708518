"""The script in README does what it says."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from layerstore import Store
from tests.helpers.images import add_image
from tests.helpers.mounts import require_root

README = Path(__file__).resolve().parents[2] / "README.md"


def test_script_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_root()
    block = r"((?:    .*\n|\n)*    from layerstore import Store\n(?:    .*\n|\n)*)"
    found = re.search(block, README.read_text())
    assert found is not None
    monkeypatch.setenv("PYUNION_ROOT", str(root))
    with Store.open() as store:
        add_image(store, {"etc/debian_version": b"12\n"}, names=["debian:12"])
    exec(compile(textwrap.dedent(found[1]), str(README), "exec"), {})
    with Store.open() as store:
        top, base = store.layers.chain(store.images.resolve("debian:greeted").top)
        assert (top.diff / "greeting").read_text() == "hello"
        assert capsys.readouterr().out == f"{top.chain_id.short} 5\n{base.chain_id.short} 3\n"
        line = store.images.history(store.images.resolve("debian:greeted"))[0]
        assert line.comment == "It says hello"
