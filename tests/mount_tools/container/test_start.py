"""The command's part of a start; what it starts is tested in test_run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.errors import StoreError
from mount_tools.container.start import attach_container
from tests.helpers.containers import Containers
from tests.helpers.images import add_image
from tests.helpers.mounts import helper_environment


def test_what_no_process_keeps_cannot_be_attached_to(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", sync=False) as store:
        container = store.containers.create(add_image(store, {"file": b""}), name="box")
        with pytest.raises(StoreError, match="container box is not running: start it first"):
            attach_container(store, container, stdin=False, keys=b"", signals=False)


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
        timeout=60,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_closed_streams_are_no_descriptors_of_the_keeper(containers: Containers) -> None:
    words = containers.command("run", "--rm", "busy:1", "sh", "-c", "exit 7")
    script = 'exec "$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *words], env=helper_environment(), timeout=60, check=False
    )
    assert done.returncode == 7


@pytest.mark.parametrize("words", [("--nonsense",), ("--pull=never", "nosuch:1", "true")])
def test_a_command_that_starts_nothing_leaves_no_keeper(
    containers: Containers, words: tuple[str, ...]
) -> None:
    done = containers("run", *words)
    assert done.returncode == 125 and done.stdout == ""
    assert containers.mine() == []
