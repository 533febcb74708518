"""What runs is refused, and its end is waited for; test_mount has what is mounted."""

from __future__ import annotations

import os
import subprocess

import pytest

from layerstore import Store
from layerstore.db.processes import ProcessId, process_start
from layerstore.errors import Conflict
from mount_tools.container.running import refuse_running, wait_for_end
from tests.helpers.processes import ending


def test_a_process_is_waited_for_so_long_at_most() -> None:
    with ending(subprocess.Popen(["sleep", "1000"])) as process:
        start = process_start(process.pid)
        assert start is not None
        assert not wait_for_end(ProcessId(process.pid, start), 0.01)
    assert wait_for_end(ProcessId(process.pid, start), 0)


def test_what_runs_is_refused(store: Store) -> None:
    container = store.containers.create(store.images.resolve("box:1"), name="box")
    refuse_running(container)
    with pytest.raises(Conflict, match="container box is running: stop it first"):
        refuse_running(store.containers.started(container, os.getpid()))
    refuse_running(store.containers.finished(container, 0))
