"""Copies into and out of a container that is stopped reach its volumes, and leave no mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore.errors import StoreError
from layerstore.store import Store
from mount_tools.container import stopped_mounts
from tests.helpers.containers import Containers


def test_a_volume_of_a_stopped_container_is_reached(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "bound").mkdir()
    (tmp_path / "mine").write_text("mine")
    flags = ("-v", "data:/d", "-v", f"{tmp_path}/bound:/d/bound", "-v", "read:/r:ro")
    containers.ok("create", "--name", "box", *flags, "busy:1", "cat", "/d/mine")
    for target in ("/d/mine", "/d/bound/mine"):
        containers.ok("cp", str(tmp_path / "mine"), f"box:{target}")
    assert (containers.store / "volumes/data/_data/mine").read_text() == "mine"
    assert (tmp_path / "bound/mine").read_text() == "mine"
    done = containers("cp", str(tmp_path / "mine"), "box:/r/mine")
    assert done.returncode == 1 and "Read-only file system" in done.stderr
    containers.ok("cp", "box:/d", str(tmp_path / "back"))
    assert (tmp_path / "back/mine").read_text() == "mine"
    assert (tmp_path / "back/bound/mine").read_text() == "mine"
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert containers.ok("start", "-a", "box") == "mine"
    assert "mine" not in containers.ok("diff", "box")
    containers.ok("rm", "box")


def test_an_ordinary_user_is_told_what_to_do(
    containers: Containers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers.ok("create", "--name", "box", "-v", "data:/d", "busy:1", "sh")
    monkeypatch.setattr(stopped_mounts, "is_machine_root", lambda: False)
    with Store.open(containers.store, sync=False) as store:
        box = store.containers.resolve("box")
        for path in ("/d", "d/x", "/x/../d/y"):
            with (
                pytest.raises(StoreError, match="is on a volume of container box, which an"),
                stopped_mounts.root_with_volumes(store, box, str(tmp_path), path),
            ):
                pass
        with stopped_mounts.root_with_volumes(store, box, str(tmp_path), "/dd"):
            pass
