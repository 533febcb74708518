"""Mounts without a supervisor: those that need none, and those whose supervisor failed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import cast

import pytest

from mount_tools.daemon import serve
from mount_tools.daemon.signals import SignalHandler
from mount_tools.daemon.transport import Running
from tests.helpers.layers import MountLayers
from tests.helpers.mounts import (
    helper_command,
    helper_environment,
    mount_type,
    require_fuse,
    require_root,
    run,
    unmount_command,
    wait_until,
)
from tests.mount_tools.daemon.test_serve import is_running
from unionfs.errors import MountError


def mount_with(layers: MountLayers, modules: Path, body: str) -> tuple[Path, int]:
    """Mount with a package trio of this body; return the log and the daemon's process id."""
    (modules / "trio").mkdir(parents=True)
    (modules / "trio/__init__.py").write_text(body)
    environment = helper_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(modules), environment["PYTHONPATH"]])
    log = layers.base / "log"
    run(
        *helper_command(
            "-o",
            f"{layers.words},transport=dev_fuse,log={log},control={layers.base}/control",
            layers.merged,
        ),
        env=environment,
    )
    wait_until(lambda: "is served without it" in log.read_text(), "the supervisor to fail")
    return log, int(log.read_text().partition("mount.pyunion[")[2].partition("]")[0])


@pytest.mark.parametrize("ending", ["umount", "signal"])
@pytest.mark.parametrize(
    "trio",
    [
        "raise ImportError('not for this Python')",
        "class Event: pass\nraise SystemError",
    ],
)
def test_a_supervisor_that_cannot_be_imported(layers: MountLayers, trio: str, ending: str) -> None:
    require_fuse()
    require_root()  # else the transport runs on trio, which is imported before the mount is live
    log, pid = mount_with(layers, layers.base / "modules", trio)
    try:
        assert (layers.merged / "from-low").read_text() == "low\n"
        (layers.merged / "new").write_text("new\n")
        os.kill(pid, signal.SIGUSR1)
        assert (layers.merged / "new").read_text() == "new\n"
        if ending == "umount":
            run(*unmount_command(), layers.merged)
        else:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not is_running(pid), "the daemon to end")
    finally:
        if mount_type(layers.merged) is not None:
            run(*unmount_command(), "-l", layers.merged)
    assert "unmounted from" in log.read_text()
    assert (layers.upper / "new").read_text() == "new\n"


def test_a_mount_without_a_control_socket_needs_no_package(layers: MountLayers) -> None:
    """Python does not see the installed packages with -S."""
    require_fuse()
    require_root()
    run(
        *(sys.executable, "-S", *helper_command("-o", layers.words, layers.merged)[1:]),
        env=helper_environment(),
    )
    try:
        assert (layers.merged / "from-low").read_text() == "low\n"
    finally:
        run(*unmount_command(), layers.merged)


def test_without_trio_there_is_no_control_socket(layers: MountLayers) -> None:
    require_fuse()
    before = layers.stats()
    words = f"{layers.words},control={layers.base}/control"
    done = run(
        *(sys.executable, "-S", *helper_command("-o", words, layers.merged)[1:]),
        env=helper_environment(),
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        32,
        b"mount.pyunion: the Python package trio is not installed, "
        b"and a mount with control= needs it\n",
    )
    assert mount_type(layers.merged) is None and layers.stats() == before


def test_no_thread_for_the_end_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that cannot be attended to is undone before it is reported as live."""
    told: list[str] = []

    class Connection:
        def join(self) -> None:
            told.append("joined")

    class Handler:
        def unmount(self) -> None:
            told.append("unmounted")

    def no_thread(_running: Running) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(serve, "Attendant", no_thread)
    with pytest.raises(MountError, match="no thread"):
        serve.attend(
            cast(Running, Connection()),
            cast(SignalHandler, Handler()),
            lambda: told.append("live"),
        )
    assert told == ["unmounted", "joined"]
