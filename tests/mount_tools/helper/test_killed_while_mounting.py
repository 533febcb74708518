"""`mount.pyunion` whose daemon is killed at each of its steps: status 0 only for a live mount."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from layerstore import Store
from tests.helpers.images import add_image
from tests.helpers.layers import MountLayers
from tests.helpers.mounts import (
    helper_environment,
    mount_type,
    require_fuse,
    run,
    unmount_command,
    wait_until,
)

# Runs mount.pyunion.  In the daemon each system call that a module of mount_tools makes
# through `os` is a step: its name goes to a file, and before the chosen one the daemon dies.
DRIVER = """
import os, signal, sys
from mount_tools.helper import main
steps, at = sys.argv[1], int(sys.argv[2])
count = 0
def watch(frame, event, function):
    global count
    if event != "c_call" or function.__module__ != "posix":
        return
    if f"{os.sep}mount_tools{os.sep}" not in frame.f_code.co_filename:
        return
    count += 1
    with open(steps, "a") as file:
        file.write(f"{frame.f_code.co_name}:{function.__name__}\\n")
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)
os.register_at_fork(after_in_child=lambda: sys.setprofile(watch))
sys.exit(main.main(sys.argv[3:]))
"""


def mount_and_kill(words: list[str], root: Path, steps: Path, at: int) -> tuple[int, list[str]]:
    """Mount with a daemon that dies before step `at`; return the status and the steps begun."""
    steps.write_text("")
    done = run(
        *(sys.executable, "-c", DRIVER, steps, str(at)),
        *words,
        env={**helper_environment(), "PYUNION_ROOT": str(root)},
        check=False,
    )
    return done.returncode, steps.read_text().splitlines()


def clear(point: Path) -> None:
    if mount_type(point) is not None:
        run(*unmount_command(), point, check=False)
    if mount_type(point) is not None:
        run(*unmount_command(), "-l" if os.geteuid() == 0 else "-z", point)


@pytest.mark.parametrize("of_image", [False, True])
def test_only_a_live_mount_is_status_0(layers: MountLayers, tmp_path: Path, of_image: bool) -> None:
    require_fuse()
    steps, root, point = tmp_path / "steps", tmp_path / "store", layers.merged
    words = ["-o", layers.words, str(point)]
    if of_image:
        words = ["box:1", str(point)]
        with Store.open(root, sync=False) as store:
            add_image(store, {"from-low": b"low\n"}, names=["box:1"])
    try:
        status, names = mount_and_kill(words, root, steps, 0)
        assert status == 0 and (point / "from-low").read_text() == "low\n"
        # The step that writes the report to the pipe; the message arrives or it does not.
        report = names.index("_send:write") + 1
        assert report > 10, names
        clear(point)
        for at in range(1, report + 1):
            status, begun = mount_and_kill(words, root, steps, at)
            assert status != 0, f"killed before step {at}, {begun[-1]}"
            clear(point)
    finally:
        clear(point)
    if of_image:
        # The last mount works as the first did, and has removed what the killed ones left.
        assert mount_and_kill(words, root, steps, 0)[0] == 0
        clear(point)
        with Store.open(root, sync=False) as store:
            wait_until(lambda: store.containers.list() == [], "the containers to be removed")
