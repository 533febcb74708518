"""One more command: only in a container that runs; tests of its running are in cli/test_run_cmd."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore import Store
from layerstore.db.processes import this_process
from layerstore.errors import StoreError
from mount_tools.container.start import exec_in_container
from mount_tools.container.viewer import PassedOn
from tests.helpers.images import add_image


def test_nothing_runs_in_a_container_that_does_not(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", sync=False) as store:
        container = store.containers.create(add_image(store, {"file": b""}), name="box")
        mounted = container._replace(
            status="running", pid=this_process().pid, mount_point="/somewhere"
        )
        for found in (container, mounted):
            with pytest.raises(StoreError, match="is not running"):
                exec_in_container(store, found, {"Cmd": ["true"]}, PassedOn())
