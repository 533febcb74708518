"""Mounts without a supervisor, on a transport that has threads of its own."""

from __future__ import annotations

import signal
import sys
import threading
from typing import cast
from unittest.mock import Mock

import pytest

from layerstore.containers.control_client import ask
from layerstore.containers.control_protocol import GetStatus
from mount_tools.daemon import serve
from mount_tools.daemon.detach import WATCHED
from mount_tools.daemon.signals import SignalHandler
from mount_tools.daemon.transport import Running
from tests.helpers import children
from tests.helpers.layers import MountLayers
from tests.helpers.mounts import (
    helper_command,
    helper_environment,
    require_fuse,
    require_root,
    run,
    unmount_command,
)
from unionfs.errors import MountError


def test_a_mount_needs_no_package(layers: MountLayers) -> None:
    """Python does not see the installed packages with -S."""
    require_fuse()
    require_root()
    control = layers.base / "control"
    words = f"{layers.words},control={control}"
    run(
        *(sys.executable, "-S", *helper_command("-o", words, layers.merged)[1:]),
        env=helper_environment(),
    )
    try:
        assert (layers.merged / "from-low").read_text() == "low\n"
        assert ask(control, GetStatus()).mount_point == str(layers.merged)
    finally:
        run(*unmount_command(), layers.merged)


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
            Mock(),
            lambda: told.append("live"),
            "auto",
        )
    assert told == ["unmounted", "joined"]


def test_a_mount_that_fails_as_it_goes_live_says_why() -> None:
    """The signal that its connection has ended does not kill the process before that."""

    def fail() -> None:
        unmounted = threading.Event()
        running = Mock()
        running.join = unmounted.wait
        before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        with pytest.raises(KeyError):
            serve.attend(running, Mock(), Mock(), Mock(side_effect=KeyError), "normal")
        unmounted.set()
        for thread in threading.enumerate():
            if thread.name == "join":
                thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    children.run(fail)


@pytest.mark.parametrize(
    ("sched", "possible", "calls"),
    [
        ("auto", True, ["leave_idle", "become_idle"]),
        ("auto", False, ["become_idle"]),
        ("idle", True, ["become_idle"]),
        ("normal", True, []),
    ],
)
def test_only_auto_leaves_idle_while_it_waits(
    monkeypatch: pytest.MonkeyPatch, sched: str, possible: bool, calls: list[str]
) -> None:
    told: list[str] = []
    running = Mock()
    running.leave_idle = lambda: told.append("leave_idle")
    monkeypatch.setattr(serve, "Attendant", Mock())
    monkeypatch.setattr(serve, "gc", Mock())
    monkeypatch.setattr(serve, "idle_is_free", lambda: True)
    monkeypatch.setattr(serve, "idle_can_be_left", lambda: possible)
    monkeypatch.setattr(serve, "become_idle", lambda: told.append("become_idle"))
    serve.attend(running, Mock(), Mock(), Mock(), sched)
    assert told == calls
