"""`mount.pyunion` whose daemon is killed at each of its steps: status 0 only for a live mount."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.helpers.mounts import (
    helper_environment,
    mount_type,
    require_fuse,
    run,
    unmount_command,
)
from tests.mount_tools.conftest import Layers

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


def mount_and_kill(layers: Layers, steps: Path, at: int) -> tuple[int, list[str]]:
    """Mount with a daemon that dies before step `at`; return the status and the steps begun."""
    steps.write_text("")
    done = run(
        *(sys.executable, "-c", DRIVER, steps, str(at)),
        *("-o", layers.words, layers.merged),
        env=helper_environment(),
        check=False,
    )
    return done.returncode, steps.read_text().splitlines()


def clear(layers: Layers) -> None:
    if mount_type(layers.merged) is not None:
        run(*unmount_command(), layers.merged, check=False)
    if mount_type(layers.merged) is not None:
        run(*unmount_command(), "-l" if os.geteuid() == 0 else "-z", layers.merged)


def test_only_a_live_mount_is_status_0(layers: Layers, tmp_path: Path) -> None:
    require_fuse()
    steps = tmp_path / "steps"
    try:
        status, names = mount_and_kill(layers, steps, 0)
        assert status == 0 and (layers.merged / "from-low").read_text() == "low\n"
        # The step that writes the report to the pipe; the message arrives or it does not.
        report = names.index("_send:write") + 1
        assert report > 10, names
        clear(layers)
        for at in range(1, report + 1):
            status, begun = mount_and_kill(layers, steps, at)
            assert status != 0, f"killed before step {at}, {begun[-1]}"
            clear(layers)
    finally:
        clear(layers)
