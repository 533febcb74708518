"""The command's part of a start; what it starts is tested in test_run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from layerstore import Store
from layerstore.errors import StoreError
from mount_tools.container import start
from mount_tools.container.start import attach_container
from mount_tools.container.viewer import PassedOn
from tests.helpers.containers import Containers
from tests.helpers.images import add_image
from tests.helpers.mounts import DEADLINE, helper_environment


def test_what_no_process_keeps_cannot_be_attached_to(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", sync=False) as store:
        container = store.containers.create(add_image(store, {"file": b""}), name="box")
        with pytest.raises(StoreError, match="container box is not running: start it first"):
            attach_container(store, container, PassedOn(stdin=False))


def test_the_command_has_no_database_open_while_it_shows_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last process to close it writes it to the disk, for which the command would wait."""

    def opened() -> bool:
        fds = (os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd"))
        return any(os.readlink(fd).startswith(str(tmp_path)) for fd in fds if os.path.islink(fd))

    def view_new(leave: Callable[[socket.socket], None], *_: object, **__: object) -> int:
        with socket.socket() as viewer:
            assert opened()
            leave(viewer)
            assert not opened()
        return 5

    monkeypatch.setattr(start, "view_new", view_new)
    with Store.open(tmp_path / "store", sync=False) as store:
        container = store.containers.create(add_image(store, {"file": b""}), name="box")
        keeper = Mock()
        assert start.run_container(store, container, PassedOn(), keeper) == 5
        assert keeper.keep.called and store.containers.get(container.id).name == "box"


def test_the_command_imports_nothing_that_only_the_keeper_needs() -> None:
    """It would do that one after the other, and on one processor."""
    script = """
import sys
import mount_tools.cli.main, mount_tools.cli.commands.run_cmd
needed = {"mount_tools.container.run", "mount_tools.container.init", "unionfs.core.union"}
print(sorted(needed & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=helper_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_closed_streams_are_no_descriptors_of_the_keeper(containers: Containers) -> None:
    words = containers.command("run", "--rm", "busy:1", "sh", "-c", "exit 7")
    script = 'exec "$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *words], env=helper_environment(), timeout=DEADLINE, check=False
    )
    assert done.returncode == 7


@pytest.mark.parametrize("words", [("--nonsense",), ("--pull=never", "nosuch:1", "true")])
def test_a_command_that_starts_nothing_leaves_no_keeper(
    containers: Containers, words: tuple[str, ...]
) -> None:
    done = containers("run", *words)
    assert done.returncode == 125 and done.stdout == ""
    assert containers.mine() == []
