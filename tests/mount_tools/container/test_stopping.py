"""How a container is ended that nobody keeps any more; test_stop_cmd has one that is kept."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from layerstore import Store
from layerstore.db.processes import ProcessId, process_start
from layerstore.errors import Busy
from mount_tools.container import stopping
from mount_tools.container.running import wait_for_end
from mount_tools.container.stopping import end_container, stop_container
from tests.helpers.processes import ending

_DEAF = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); "


@pytest.mark.parametrize("deaf", [False, True])
def test_what_does_not_end_when_asked_is_killed(store: Store, deaf: bool) -> None:
    container = store.containers.create(store.images.resolve("box:1"), name="box")
    script = (_DEAF if deaf else "print(flush=True); ") + "import time; time.sleep(1000)"
    command = [sys.executable, "-c", script]
    with ending(subprocess.Popen(command, stdout=subprocess.PIPE)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        start = process_start(process.pid)
        assert start is not None
        started = store.containers.started(container, process.pid)
        # What its keeper does; the store notes the end before `stop_container` returns.
        keeper = threading.Thread(
            target=lambda: store.containers.finished(container, 128 - process.wait())
        )
        keeper.start()
        stop_container(store, started, 0.1)
        assert store.containers.get(container.id).exit_code == (137 if deaf else 143)
        assert wait_for_end(ProcessId(process.pid, start), 0)
        keeper.join()
        process.stdout.close()


def test_a_keeper_that_does_not_record_the_end_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container counts as running until then, so that it can be neither started nor removed."""
    monkeypatch.setattr(stopping, "SECONDS_TO_NOTE", 0.1)
    container = store.containers.create(store.images.resolve("box:1"), name="box")
    with ending(subprocess.Popen(["sleep", "1000"])) as process:
        started = store.containers.started(container, process.pid)
        with pytest.raises(Busy, match=r"^container box was killed, but its end is not recorded: "):
            stop_container(store, started, 0)
        assert store.containers.get(container.id).running


def test_what_does_not_run_is_left_alone(store: Store) -> None:
    container = store.containers.create(store.images.resolve("box:1"), name="box")
    stop_container(store, container)
    end_container(store, container)
    assert store.containers.get(container.id) == container
